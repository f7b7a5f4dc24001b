//! The provider as a process of its own, spoken to over real sockets.

#[cfg(test)]
mod api;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod misbehaviour;
#[cfg(test)]
mod support;
