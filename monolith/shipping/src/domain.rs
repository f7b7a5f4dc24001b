//! The steps of a shipment, its tracking code, and the forms in which the tables hold both.
//!
//! Invariant: `scheduled` comes before `handed_over` before `delivered`, and `stopped` only before `handed_over`.

use contracts::shipping::{Schedule, Shipment, ShipmentStatus, ShipmentStep, ShippingError};
use contracts::{IdError, OrderId, Timestamp};
use diesel::prelude::{Insertable, Queryable, Selectable};

use crate::schema::{shipping_shipments, shipping_steps};

/// How many tracking codes there are.
const CODES: u64 = 10_000_000_000;
/// Has no factor in common with [`CODES`], so multiplication permutes the codes.
const SPREAD: u64 = 6_180_339_887;

/// `BNY` and ten digits, the same for an order every time. No two of the first ten thousand million orders share one, and
/// neighbours look unrelated, so a misread digit does not show somebody else's parcel.
pub(crate) fn tracking_code(order_id: OrderId) -> String {
    let mixed = u128::from(order_id.get().unsigned_abs()) * u128::from(SPREAD) % u128::from(CODES);
    format!("BNY{mixed:010}")
}

/// What becomes of a shipment once the carrier says that it stands at `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Move {
    /// It goes there.
    Step,
    /// It is there already.
    Repeat,
}

/// Whether a shipment can go from where it stands to where it should.
pub(crate) fn advance(
    order_id: OrderId,
    from: ShipmentStatus,
    to: ShipmentStatus,
) -> Result<Move, ShippingError> {
    use ShipmentStatus::{Delivered, HandedOver, Scheduled};
    match (from, to) {
        (from, to) if from == to => Ok(Move::Repeat),
        (Scheduled, HandedOver) | (HandedOver, Delivered) => Ok(Move::Step),
        _ => Err(wrong_step(order_id, from, to)),
    }
}

/// Whether a shipment can still be stopped.
pub(crate) fn stop(order_id: OrderId, from: ShipmentStatus) -> Result<Move, ShippingError> {
    match from {
        ShipmentStatus::Scheduled => Ok(Move::Step),
        ShipmentStatus::Stopped => Ok(Move::Repeat),
        ShipmentStatus::HandedOver | ShipmentStatus::Delivered => {
            Err(wrong_step(order_id, from, ShipmentStatus::Stopped))
        }
    }
}

fn wrong_step(order_id: OrderId, from: ShipmentStatus, to: ShipmentStatus) -> ShippingError {
    let (from, to) = (status_word(from).to_owned(), status_word(to).to_owned());
    ShippingError::WrongStep { order_id, from, to }
}

/// Why a row is not one that this program wrote.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RowError {
    #[error("an id")]
    Id(#[from] IdError),
    #[error("an address")]
    Address(#[from] serde_json::Error),
    #[error("the status `{0}`")]
    Status(String),
}

/// One row of `shipping_shipments`.
#[derive(Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = shipping_shipments)]
pub(crate) struct ShipmentRow {
    order_id: i64,
    tracking_code: Option<String>,
    address: Option<String>,
    status: String,
}

/// One row of `shipping_steps`.
#[derive(Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = shipping_steps)]
pub(crate) struct StepRow {
    order_id: i64,
    status: String,
    at_ms: i64,
}

/// The row of a shipment that was just scheduled.
pub(crate) fn scheduled_row(schedule: &Schedule) -> Result<ShipmentRow, RowError> {
    Ok(ShipmentRow {
        order_id: schedule.order_id.get(),
        tracking_code: Some(tracking_code(schedule.order_id)),
        address: schedule.address.as_ref().map(serde_json::to_string).transpose()?,
        status: status_word(ShipmentStatus::Scheduled).to_owned(),
    })
}

/// The row of a shipment that was stopped before it was scheduled.
pub(crate) fn tombstone_row(order_id: OrderId) -> ShipmentRow {
    let status = status_word(ShipmentStatus::Stopped).to_owned();
    ShipmentRow { order_id: order_id.get(), tracking_code: None, address: None, status }
}

/// The row of a step.
pub(crate) fn step_row(order_id: OrderId, step: ShipmentStep) -> StepRow {
    let status = status_word(step.status).to_owned();
    StepRow { order_id: order_id.get(), status, at_ms: step.at.as_millis() }
}

/// The shipment of a row and its steps, which may come in any order.
pub(crate) fn shipment(row: ShipmentRow, steps: Vec<StepRow>) -> Result<Shipment, RowError> {
    let mut steps = steps.into_iter().map(step).collect::<Result<Vec<_>, _>>()?;
    steps.sort_by_key(|step| place(step.status));
    Ok(Shipment {
        order_id: row.order_id.try_into()?,
        tracking_code: row.tracking_code,
        address: row.address.as_deref().map(serde_json::from_str).transpose()?,
        status: status(row.status)?,
        steps,
    })
}

/// The column's word for a status.
pub(crate) fn status_word(status: ShipmentStatus) -> &'static str {
    match status {
        ShipmentStatus::Scheduled => "scheduled",
        ShipmentStatus::HandedOver => "handed_over",
        ShipmentStatus::Delivered => "delivered",
        ShipmentStatus::Stopped => "stopped",
    }
}

/// Every status, in the order in which a shipment can reach them.
const STATUSES: [ShipmentStatus; 4] = [
    ShipmentStatus::Scheduled,
    ShipmentStatus::HandedOver,
    ShipmentStatus::Delivered,
    ShipmentStatus::Stopped,
];

fn place(status: ShipmentStatus) -> Option<usize> {
    STATUSES.iter().position(|each| *each == status)
}

fn status(word: String) -> Result<ShipmentStatus, RowError> {
    STATUSES.into_iter().find(|status| status_word(*status) == word).ok_or(RowError::Status(word))
}

fn step(row: StepRow) -> Result<ShipmentStep, RowError> {
    Ok(ShipmentStep { status: status(row.status)?, at: Timestamp::from_millis(row.at_ms) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::*;

    fn order(id: i64) -> OrderId {
        id.try_into().unwrap()
    }

    /// The factor that takes [`SPREAD`] back: their product is 1 modulo [`CODES`].
    fn inverse() -> u64 {
        let (mut old, mut new) = ((i128::from(SPREAD), 1_i128), (i128::from(CODES), 0_i128));
        while new.0 != 0 {
            let quotient = old.0 / new.0;
            (old, new) = (new, (old.0 - quotient * new.0, old.1 - quotient * new.1));
        }
        assert_eq!(old.0, 1, "two orders would share a code");
        u64::try_from(old.1.rem_euclid(i128::from(CODES))).unwrap()
    }

    proptest! {
        #[test]
        fn a_tracking_code_leads_back_to_its_order(id in 1..10_000_000_000_i64) {
            let code = tracking_code(order(id));
            let digits = code.strip_prefix("BNY").unwrap();
            prop_assert_eq!(digits.len(), 10);
            let back = digits.parse::<u128>().unwrap() * u128::from(inverse()) % u128::from(CODES);
            prop_assert_eq!(back, u128::try_from(id).unwrap());
        }
    }

    #[test]
    fn tracking_codes_stay_as_they_are() {
        // They are printed on parcels: a change of these needs a new column.
        for (id, code) in [(1, "BNY6180339887"), (2, "BNY2360679774"), (i64::MAX, "BNY6444713809")] {
            assert_eq!(tracking_code(order(id)), code);
        }
    }

    #[test]
    fn a_shipment_goes_one_step_forward_or_stays() {
        let place = |status| place(status).unwrap();
        for from in STATUSES {
            for to in STATUSES {
                let expected = match to {
                    to if to == from => Some(Move::Repeat),
                    ShipmentStatus::Stopped => None,
                    to if place(to) == place(from) + 1 => Some(Move::Step),
                    _ => None,
                };
                assert_eq!(advance(order(1), from, to).ok(), expected, "{from:?} to {to:?}");
            }
        }
    }

    #[test]
    fn only_what_was_not_handed_over_can_be_stopped() {
        use ShipmentStatus::{Delivered, HandedOver, Scheduled, Stopped};
        let stopped = [Scheduled, HandedOver, Delivered, Stopped].map(|from| stop(order(1), from).ok());
        assert_eq!(stopped, [Some(Move::Step), None, None, Some(Move::Repeat)]);
    }

    #[test]
    fn every_status_survives_being_a_word() {
        for each in STATUSES {
            assert_eq!(status(status_word(each).to_owned()).unwrap(), each);
        }
        assert!(status("lost".to_owned()).is_err());
    }
}
