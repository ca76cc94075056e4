//! `[http]`: where the runtime answers.

use std::net::SocketAddr;

use crate::config::leaf::{Leaf, Text};
use crate::config::schema::{Key, leaf};
use crate::config::settings::HttpSettings;

use super::de;

pub(super) const KEYS: &[Key] =
    &[leaf("listen", Leaf::Text(Text::Address)), leaf("probe_listen", Leaf::Text(Text::Address))];

/// `[http]` as written.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawHttp {
    #[serde(deserialize_with = "de::address")]
    listen: Option<SocketAddr>,
    #[serde(deserialize_with = "de::address")]
    probe_listen: Option<SocketAddr>,
}

impl RawHttp {
    /// `explicit`: somebody named the address, so a taken port refuses the start.
    pub(in crate::config) fn settle(self, explicit: bool) -> HttpSettings {
        HttpSettings { listen: self.listen, listen_explicit: explicit, probe_listen: self.probe_listen }
    }
}
