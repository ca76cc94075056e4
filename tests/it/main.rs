//! Everything that is tested from outside the library: one file per promise.

mod cli_act;
mod cli_codes;
mod cli_look;
mod config_advice;
mod config_errors;
mod config_files;
mod config_load;
mod config_manual;
mod config_overrides;
mod config_properties;
mod fake;
mod faults_process;
mod faults_runtime;
mod house;
mod http_api;
mod http_metrics;
mod http_public;
mod rig;
