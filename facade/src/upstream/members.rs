//! The instances of an upstream as they are now.
//!
//! Invariant: an instance that stays keeps what is known of it; one that was gone and comes back begins anew.

use std::net::SocketAddr;
use std::sync::Arc;

use http::uri::Authority;

use crate::upstream::instance::Instance;

/// An instance with its share of the requests.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) instance: Arc<Instance>,
    pub(crate) weight: u32,
}

impl PartialEq for Member {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.instance, &other.instance) && self.weight == other.weight
    }
}

/// The instances of an upstream.
#[derive(Debug, Clone, Default)]
pub(crate) struct Members {
    pub(crate) present: Vec<Member>,
    /// Gone, but with requests in flight when they went.
    leaving: Vec<Arc<Instance>>,
    /// Requests that were sent to those that are gone, so that the sum never falls.
    sent_to_gone: u64,
}

/// The address, where it is written as one; a name has to be resolved.
pub(crate) fn literal(authority: &Authority) -> Option<SocketAddr> {
    authority.as_str().parse().ok()
}

impl Members {
    /// Those that follow from the settings and from what names resolve to; none if they are the same as before.
    pub(crate) fn after(
        &self,
        authorities: &[Authority],
        weights: &[u32],
        resolve: impl Fn(&Authority) -> Vec<SocketAddr>,
    ) -> Option<Self> {
        let mut present: Vec<Member> = Vec::new();
        for (place, authority) in authorities.iter().enumerate() {
            let weight = weights.get(place).copied().unwrap_or(1);
            let addresses = literal(authority).map_or_else(|| resolve(authority), |address| vec![address]);
            for address in addresses {
                if !present.iter().any(|member| member.instance.address == address) {
                    present.push(Member { instance: self.instance(authority, address), weight });
                }
            }
        }
        if present == self.present {
            return None;
        }
        let stays = |instance: &Arc<Instance>| present.iter().any(|new| Arc::ptr_eq(&new.instance, instance));
        let gone: Vec<_> = self.instances().filter(|instance| !stays(instance)).cloned().collect();
        let sent_to_gone = self.sent_to_gone + gone.iter().map(|instance| instance.requests()).sum::<u64>();
        let leaving = self.leaving().cloned().chain(gone).filter(|gone| gone.in_flight() > 0).collect();
        Some(Self { present, leaving, sent_to_gone })
    }

    pub(crate) fn instances(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.present.iter().map(|member| &member.instance)
    }

    /// Those that are gone, while requests are in flight.
    pub(crate) fn leaving(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.leaving.iter().filter(|instance| instance.in_flight() > 0)
    }

    /// What the name resolved to when this was made.
    pub(crate) fn addresses(&self, authority: &Authority) -> Vec<SocketAddr> {
        let of_it = self.instances().filter(|instance| instance.authority == *authority);
        of_it.map(|instance| instance.address).collect()
    }

    /// Requests since the upstream is known, without those that were sent again.
    pub(crate) fn requests(&self) -> u64 {
        self.sent_to_gone + self.instances().map(|instance| instance.requests()).sum::<u64>()
    }

    fn instance(&self, authority: &Authority, address: SocketAddr) -> Arc<Instance> {
        let is_it = |known: &&Arc<Instance>| known.address == address && known.authority == *authority;
        let known = self.instances().find(is_it).cloned();
        known.unwrap_or_else(|| Arc::new(Instance::new(authority.clone(), address)))
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use http::uri::Authority;

    use super::Members;

    fn resolved(before: &Members, to: &[u8]) -> Option<Members> {
        let addresses =
            |_: &Authority| to.iter().map(|last| SocketAddr::from(([127, 0, 0, *last], 80))).collect();
        before.after(
            &[Authority::from_static("svc:80"), Authority::from_static("127.0.0.1:80")],
            &[3, 1],
            addresses,
        )
    }

    #[test]
    fn every_address_of_a_name_is_an_instance_of_its_weight_and_one_that_stays_is_the_same() {
        let before = resolved(&Members::default(), &[2, 3]).unwrap();
        let weights: Vec<_> = before.present.iter().map(|member| member.weight).collect();
        assert_eq!(weights, [3, 3, 1]);
        assert!(resolved(&before, &[2, 3]).is_none());
        let after = resolved(&before, &[3, 4]).unwrap();
        let place = |members: &Members, place: usize| Arc::clone(&members.present[place].instance);
        assert!(Arc::ptr_eq(&place(&before, 1), &place(&after, 0)));
        let back = resolved(&after, &[2, 3]).unwrap();
        assert!(!Arc::ptr_eq(&place(&before, 0), &place(&back, 0)));
    }

    #[test]
    fn an_instance_that_goes_is_shown_until_its_last_request_ends_and_its_requests_stay_counted() {
        let before = resolved(&Members::default(), &[2]).unwrap();
        let cells = before.present[0].instance.cells();
        crate::upstream::instance::add(&cells.begun);
        let after = resolved(&before, &[3]).unwrap();
        assert_eq!((after.leaving().count(), after.requests()), (1, 1));
        crate::upstream::instance::add(&cells.ended);
        assert_eq!((after.leaving().count(), after.requests()), (0, 1));
    }
}
