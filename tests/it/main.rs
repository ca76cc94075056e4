//! The promises, one file each.

mod config_advice;
mod config_errors;
mod config_files;
mod config_load;
mod config_manual;
mod config_overrides;
mod config_properties;
