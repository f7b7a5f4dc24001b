//! All tests that look at the project as a whole, in one binary because linking is what costs here: first those that
//! read its sources, then those that run its binaries.

#[cfg(test)]
mod api_document;
#[cfg(test)]
mod architecture;
#[cfg(test)]
mod captured;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod extraction;
#[cfg(test)]
mod generated;
#[cfg(test)]
mod import_books;
#[cfg(test)]
mod output;
#[cfg(test)]
mod parity;
#[cfg(test)]
mod smoke;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tidy;
#[cfg(test)]
mod trade;
#[cfg(test)]
mod trade_crash;
