//! Supervision of code in this process rests on unwinding: a program that aborts at its first panic has nobody left to
//! start a worker again. Such a build is refused, where it is cheap to find out.

#[cfg(panic = "abort")]
compile_error!(
    "regrow survives panics of workers by unwinding, and this build has `panic = \"abort\"`, which would end the whole \
     program with the first of them: take `panic = \"abort\"` out of the profile in Cargo.toml (and out of RUSTFLAGS), \
     or run the workers as processes"
);
