//! One file for each thing to look at.

mod actor;
mod apart;
mod disk;
mod exec;
mod gpu;
mod grpc;
mod http;
mod net;
mod own;
mod process;
mod resources;
mod tcp;

pub(super) use actor::Says;
pub(super) use disk::Disk;
pub(super) use exec::Exec;
pub(super) use gpu::Gpu;
pub(super) use grpc::Grpc;
pub(super) use http::Http;
pub(super) use own::Own;
pub(crate) use process::{in_condition, of_process};
pub(super) use resources::Resources;
pub(super) use tcp::Tcp;
