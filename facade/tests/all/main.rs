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
mod forwarded;
#[cfg(test)]
mod forwarding;
#[cfg(test)]
mod jwt;
#[cfg(test)]
mod load;
#[cfg(test)]
mod protection_api;
#[cfg(test)]
mod rate_limits;
#[cfg(test)]
mod strictness;
#[cfg(test)]
mod support;
#[cfg(test)]
mod switch;
#[cfg(test)]
mod tokens;
#[cfg(test)]
mod vectors;
