//! Everything that is tested from outside the library: one file per promise.

mod house;
