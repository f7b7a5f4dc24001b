//! The facade in front of real servers, spoken to over real sockets.

#[cfg(test)]
mod command_line;
#[cfg(test)]
mod draining;
#[cfg(test)]
mod early_answers;
#[cfg(test)]
mod expectations;
#[cfg(test)]
mod failures;
#[cfg(test)]
mod fallback;
#[cfg(test)]
mod flags;
#[cfg(test)]
mod foreign;
#[cfg(test)]
mod forwarding;
#[cfg(test)]
mod handover;
#[cfg(test)]
mod http2;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod strictness;
#[cfg(test)]
mod support;
#[cfg(test)]
mod switch;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod upgrades;
#[cfg(test)]
mod vectors;
