//! The facade in front of real servers, spoken to over real sockets.

#[cfg(test)]
mod command_line;
#[cfg(test)]
mod counting;
#[cfg(test)]
mod distrust;
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
mod nginx;
#[cfg(test)]
mod strictness;
#[cfg(test)]
mod strictness_fuzz;
#[cfg(test)]
mod strictness_table;
#[cfg(test)]
mod support;
#[cfg(test)]
mod switch;
#[cfg(test)]
mod vectors;
