//! What a text makes, for tests.

use super::{Settings, Sources, load};

/// The settings of a text that is right.
pub(crate) fn settings(text: &str) -> Settings {
    load(&Sources::text(text)).unwrap_or_else(|problems| panic!("{problems}")).settings
}

/// What is said of one that is wrong; nothing of one that is right.
pub(crate) fn refused(text: &str) -> String {
    load(&Sources::text(text)).err().map(|problems| problems.to_string()).unwrap_or_default()
}
