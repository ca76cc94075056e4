//! regrow: workers that grow back.

pub mod cli;
pub mod config;
pub mod event;
pub mod exit;
pub mod http;
pub mod id;
pub mod policy;
pub mod runtime;
pub mod supervisor;
pub mod telemetry;
pub mod units;
pub mod worker;
