//! The one table of metric names. A series that is not in it does not exist.

/// What a family's values mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MetricKind {
    /// Goes up and down.
    Gauge,
    /// Only rises; its name ends in `_total`.
    Counter,
    /// How often a value was at most so large.
    Histogram,
}

/// One metric family.
#[derive(Debug, Clone, Copy)]
pub(super) struct Family {
    /// Full name.
    pub(super) name: &'static str,
    /// What its values mean.
    pub(super) kind: MetricKind,
    /// One line for people.
    pub(super) help: &'static str,
}

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: MetricKind::Gauge, help }
}

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: MetricKind::Counter, help }
}

const fn histogram(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: MetricKind::Histogram, help }
}

pub(super) const PROBE_SECONDS: Family =
    histogram("regrow_probe_duration_seconds", "How long the looks of probes took.");
pub(super) const PROBE_RESULTS: Family =
    counter("regrow_probe_results_total", "Looks of probes by what they found.");
pub(super) const BUILD_INFO: Family =
    gauge("regrow_build_info", "Version and name of the runtime; always 1.");
pub(super) const WORKERS: Family = gauge("regrow_workers", "Instances by supervisor and status.");
pub(super) const CONFIG_OK: Family = gauge(
    "regrow_config_last_reload_successful",
    "1 if the last reading of the configuration was taken over.",
);
pub(super) const UP: Family = gauge("regrow_worker_up", "1 if the instance runs and is ready.");
pub(super) const STATUS: Family =
    gauge("regrow_worker_status", "1 for the status that holds, 0 for the others.");
pub(super) const SCORE: Family =
    gauge("regrow_worker_health_score", "Health from 0 to 1; absent without data.");
pub(super) const RESTARTS: Family =
    counter("regrow_worker_restarts_total", "Starts after the first, by what made them needed.");
pub(super) const STARTED: Family =
    gauge("regrow_worker_start_time_seconds", "When the running incarnation was started, in Unix time.");
pub(super) const CPU: Family =
    counter("regrow_worker_cpu_seconds_total", "Processor time of the running process tree.");
pub(super) const CPU_USAGE: Family = gauge(
    "regrow_worker_cpu_usage_ratio",
    "Load of the process tree; 1 is one core. Over the time since the look before, or since the start.",
);
pub(super) const MEMORY: Family = gauge(
    "regrow_worker_memory_bytes",
    "Resident memory of the process tree; pages that processes share count for each.",
);
pub(super) const WORKING_SET: Family = gauge(
    "regrow_worker_memory_working_set_bytes",
    "Memory without page cache that the kernel would take back; what marks and limits are about.",
);
pub(super) const MEMORY_LIMIT: Family =
    gauge("regrow_worker_memory_limit_bytes", "The most memory that the process tree may take.");
pub(super) const GPU_MEMORY: Family =
    gauge("regrow_worker_gpu_memory_used_ratio", "How full the memory of its card was at the last look.");
pub(super) const GPU_USAGE: Family =
    gauge("regrow_worker_gpu_utilization_ratio", "How busy its card was at the last look.");
pub(super) const DISK: Family =
    gauge("regrow_disk_used_ratio", "How full the disk of a probe's path was at the last look.");
pub(super) const FILES: Family =
    gauge("regrow_worker_open_file_descriptors", "Open files of the main process.");
pub(super) const HEARTBEAT: Family = gauge(
    "regrow_worker_last_heartbeat_timestamp_seconds",
    "When it last said that it is alive, in Unix time.",
);
pub(super) const LINES_DROPPED: Family =
    counter("regrow_log_lines_dropped_total", "Output lines that could not be kept.");
pub(super) const LAG: Family = gauge(
    "regrow_runtime_lag_seconds",
    "How late the control plane's timers were, at worst, in the last 15 seconds.",
);
pub(super) const RECOVERIES: Family = counter(
    "regrow_recovery_attempts_total",
    "Attempts to recover a worker, by strategy and by what came of them.",
);
pub(super) const BREAKER: Family =
    gauge("regrow_breaker_state", "The breaker of its recovery steps: 1 for the state it is in.");
pub(super) const DETECTION: Family = histogram(
    "regrow_incident_detection_duration_seconds",
    "From the first evidence to the incident, of incidents that ended well.",
);
pub(super) const RECOVERY: Family =
    histogram("regrow_incident_recovery_duration_seconds", "From the incident to the verified recovery.");
pub(super) const EVENTS: Family = counter("regrow_events_total", "Events by kind.");
pub(super) const EVENTS_DROPPED: Family =
    counter("regrow_events_dropped_total", "Events that slow followers of the stream have lost.");
pub(super) const STALE: Family =
    counter("regrow_stale_messages_total", "Messages about incarnations that were over, dropped.");

pub(super) const PROCESS_CPU: Family =
    counter("process_cpu_seconds_total", "Processor time of the runtime itself.");
pub(super) const PROCESS_MEMORY: Family =
    gauge("process_resident_memory_bytes", "Resident memory of the runtime itself.");
pub(super) const PROCESS_VIRTUAL: Family =
    gauge("process_virtual_memory_bytes", "Address space of the runtime itself.");
pub(super) const PROCESS_THREADS: Family = gauge("process_threads", "Threads of the runtime itself.");
pub(super) const PROCESS_FILES: Family = gauge("process_open_fds", "Open files of the runtime itself.");
pub(super) const PROCESS_MAX_FILES: Family = gauge("process_max_fds", "Limit on the runtime's open files.");
pub(super) const PROCESS_STARTED: Family =
    gauge("process_start_time_seconds", "When the runtime was started, in Unix time.");

pub(super) const SEED_STATUS: Family = gauge("worker_health_status", "1 if the instance is healthy.");
pub(super) const SEED_SCORE: Family =
    gauge("worker_health_score", "Health from 0 to 1; absent without data.");
pub(super) const SEED_CPU_USAGE: Family = gauge("worker_cpu_usage", "Load in percent of one core.");
pub(super) const SEED_CPU_PERCENT: Family = gauge("worker_cpu_percent", "Load in percent of one core.");
pub(super) const SEED_MEMORY_USAGE: Family = gauge("worker_memory_usage", "Resident memory in MiB.");
pub(super) const SEED_MEMORY_MB: Family = gauge("worker_memory_mb", "Resident memory in MiB.");
pub(super) const SEED_TOTAL: Family = gauge("system_total_workers", "Instances.");
pub(super) const SEED_HEALTHY: Family = gauge("system_healthy_workers", "Instances that are healthy.");
