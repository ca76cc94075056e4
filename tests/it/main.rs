//! The promises, one file each.

mod config_errors;
mod config_load;
