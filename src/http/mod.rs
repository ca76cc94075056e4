//! HTTP: the control socket and the TCP listener.
