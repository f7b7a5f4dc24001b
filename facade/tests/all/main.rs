//! The facade in front of real servers, spoken to over real sockets.

#[cfg(test)]
mod access_log;
#[cfg(test)]
mod admin_api;
#[cfg(test)]
mod balancing;
#[cfg(test)]
mod command_line;
#[cfg(test)]
mod control_settings;
#[cfg(test)]
mod counting;
#[cfg(test)]
mod deciding;
#[cfg(test)]
mod distrust;
#[cfg(test)]
mod draining;
#[cfg(test)]
mod early_answers;
#[cfg(test)]
mod early_hints;
#[cfg(test)]
mod expectations;
#[cfg(test)]
mod failures;
#[cfg(test)]
mod fallback;
#[cfg(test)]
mod flags;
#[cfg(test)]
mod flags_copy;
#[cfg(test)]
mod fleet;
#[cfg(test)]
mod foreign;
#[cfg(test)]
mod forwarded;
#[cfg(test)]
mod forwarding;
#[cfg(test)]
mod frames;
#[cfg(test)]
mod handover;
#[cfg(test)]
mod hardship;
#[cfg(test)]
mod hosts;
#[cfg(test)]
mod http2;
#[cfg(test)]
mod jwt;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod load;
#[cfg(test)]
mod many_facades;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod names;
#[cfg(test)]
mod nginx;
#[cfg(test)]
mod outages;
#[cfg(test)]
mod protection_api;
#[cfg(test)]
mod rate_limits;
#[cfg(test)]
mod reload;
#[cfg(test)]
mod reload_protection;
#[cfg(test)]
mod routes;
#[cfg(test)]
mod served;
#[cfg(test)]
mod status;
#[cfg(test)]
mod strictness;
#[cfg(test)]
mod strictness_fuzz;
#[cfg(test)]
mod strictness_http2;
#[cfg(test)]
mod strictness_http2_cases;
#[cfg(test)]
mod strictness_http2_frames;
#[cfg(test)]
mod strictness_http2_fuzz;
#[cfg(test)]
mod strictness_table;
#[cfg(test)]
mod support;
#[cfg(test)]
mod switch;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod tokens;
#[cfg(test)]
mod traces;
#[cfg(test)]
mod upgrades;
#[cfg(test)]
mod upstreams;
#[cfg(test)]
mod vectors;
#[cfg(test)]
mod websocket_http2;
