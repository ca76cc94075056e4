//! Series of the user's own code: what it says through the `metrics` facade stands on our page.
//!
//! Our own series are not kept here, because this recorder cannot forget one, and a removed worker's must be gone at the
//! next scrape. Installed only where regrow is the whole program: the recorder is one for a process, and a host program
//! may have its own.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// Takes what the `metrics` macros say from now on. Does nothing where somebody has installed a recorder already.
pub fn record_user_series() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_ok() {
        let _ = RECORDER.set(handle);
    }
}

/// Gathers histograms' samples, which otherwise pile up between two scrapes.
pub fn tidy_user_series() {
    if let Some(handle) = RECORDER.get() {
        handle.run_upkeep();
    }
}

/// The user's series as Prometheus text; `None` if there are none.
#[must_use]
pub fn user_series() -> Option<String> {
    let handle = RECORDER.get()?;
    handle.run_upkeep();
    Some(handle.render()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_user_code_counts_is_on_the_page_as_text() {
        record_user_series();
        // A second call changes nothing.
        record_user_series();
        metrics::counter!("pages_printed_total", "printer" => "big").increment(3);
        metrics::histogram!("page_seconds").record(0.5);
        tidy_user_series();
        let page = user_series().unwrap_or_default();
        assert!(page.contains("pages_printed_total{printer=\"big\"} 3"), "{page}");
        assert!(page.contains("page_seconds_count 1"), "{page}");
    }
}
