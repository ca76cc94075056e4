//! A connection can be made.

use crate::probe::{Found, Look, Patient, Probe};

use super::net;

/// `host:port`, or `unix:/path`.
pub(in crate::probe) struct Tcp {
    pub(in crate::probe) address: String,
}

impl Probe for Tcp {
    fn look<'a>(&'a self, patient: &'a Patient) -> Look<'a> {
        Box::pin(async {
            let address = patient.fill(&self.address);
            let connected = match address.strip_prefix("unix:") {
                Some(path) => net::unix(path).await.map(drop),
                None => net::tcp(patient, &address).await.map(drop),
            };
            match connected {
                Ok(()) => Found::pass(format!("{address} takes connections")),
                Err(found) => found,
            }
        })
    }
}
