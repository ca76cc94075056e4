//! Everything that is tested from outside the library: one file per promise.

mod config_load;
mod faults_process;
mod faults_runtime;
mod house;
mod rig;
