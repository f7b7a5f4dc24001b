//! What happens to the binary `migrate` when processes die, others interfere, and inputs are bad.
//!
//! Invariant: the binary is known only from outside (settings, command line, exit code, signals), and equality is asked of the
//! databases by plain SQL, never of `migrate verify`.

#[cfg(test)]
mod altered;
#[cfg(test)]
mod application;
#[cfg(test)]
mod deaths;
#[cfg(test)]
mod inputs;
#[cfg(test)]
mod killed;
#[cfg(test)]
mod log;
#[cfg(test)]
mod odd;
#[cfg(test)]
mod output;
#[cfg(test)]
mod permissions;
#[cfg(test)]
mod removed;
#[cfg(test)]
mod selects;
#[cfg(test)]
mod space;
#[cfg(test)]
mod verifying;
#[cfg(test)]
mod way_back;
#[cfg(test)]
mod wide;
#[cfg(test)]
mod world;
