//! The promises, one file each.

mod fake;

mod cli_act;
mod cli_codes;
mod cli_look;
mod config_load;
mod http_api;
mod http_metrics;
mod http_public;
