//! Follows a log.
