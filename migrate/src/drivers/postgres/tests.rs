//! Tests against real servers: a private cluster, two databases for each test.
//!
//! Invariant: what two tables hold is compared by SQL of the tests' own, which shares no code with the driver.

mod applying;
mod bounding;
mod capturing;
mod comparing;
mod copying;
mod keys;
mod load;
mod loading;
mod partitions;
mod positions;
mod surveying;
mod tls;
mod types;
mod uniques;
mod world;
