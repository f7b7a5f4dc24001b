//! The facade in front of real servers, spoken to over real sockets.

#[cfg(test)]
mod command_line;
#[cfg(test)]
mod early_answers;
#[cfg(test)]
mod failures;
#[cfg(test)]
mod fallback;
#[cfg(test)]
mod flags;
#[cfg(test)]
mod forwarding;
#[cfg(test)]
mod strictness;
#[cfg(test)]
mod support;
#[cfg(test)]
mod switch;
#[cfg(test)]
mod upstreams;
#[cfg(test)]
mod vectors;
