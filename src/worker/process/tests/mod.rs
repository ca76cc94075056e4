//! Real processes, real signals. What a worker saw of itself is read from files it wrote; nothing sleeps to wait.

mod ends;
mod rig;
mod scale;
mod speech;
mod starts;
mod survival;
mod trees;
