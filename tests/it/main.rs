//! Everything that is tested from outside the library: one file per promise, in one binary, since linking is what
//! costs.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so")]

#[path = "../fleet/mod.rs"]
#[expect(dead_code, reason = "some of it is for the benches")]
mod fleets;
#[path = "../otp/mod.rs"]
mod otp;
#[path = "../../examples/otp_trace/main.rs"]
#[expect(dead_code, reason = "an example's main is not called here")]
mod otp_trace;
#[path = "../sim/mod.rs"]
mod sim;

mod approval;
mod cli_act;
mod cli_codes;
mod cli_doctor;
mod cli_init;
mod cli_look;
mod cli_run;
mod cli_start;
mod config_advice;
mod config_errors;
mod config_files;
mod config_live;
mod config_live_flags;
mod config_load;
mod config_manual;
mod config_numbers;
mod config_overrides;
mod config_properties;
mod config_refused;
mod config_schema;
mod conformance;
mod embedded;
mod fake;
mod faults_actor;
mod faults_identity;
mod faults_output;
mod faults_process;
mod faults_runtime;
mod faults_shortage;
mod faults_state_dir;
mod faults_stuck;
mod faults_survivors;
mod fleet;
mod growth;
mod guest;
mod hardship;
mod health;
mod house;
mod http_api;
mod http_metrics;
mod http_public;
mod import;
mod incarnations;
mod invariants;
mod invariants_cases;
mod invariants_lives;
mod invariants_reform;
mod isolation_daemon;
mod isolation_hostile;
mod isolation_limits;
mod isolation_secrets;
mod isolation_user;
mod ladders;
mod learning;
mod orderly;
mod otp_live;
mod otp_recorded;
mod own_probe;
mod packages;
mod plain_actor;
mod pools;
mod recovery;
mod recovery_kept;
mod rig;
mod rolling;
mod rolling_edges;
mod shim;
mod simulator;
mod stage;
mod store_history;
mod store_journal;
mod store_power;
mod store_state;
mod strategies;
mod talk;
mod templates;
mod upkeep;
mod upkeep_left;
mod why;
