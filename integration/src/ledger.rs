//! The books of the agent, checked by what must hold and not by how it keeps them.
use serde_json::Value;

/// One row of `/api/v1/ledger` that does not add up, or why the snapshot says nothing.
#[derive(Debug, PartialEq)]
pub enum Imbalance {
    /// Something happened while it was taken.
    Inconsistent,
    Row(String),
}

/// Adds up every row itself: observed = delivered + dropped + in flight.
pub fn balance(ledger: &Value) -> Result<(), Imbalance> {
    if ledger["consistent"] != true {
        return Err(Imbalance::Inconsistent);
    }
    let rows = ledger["kinds"].as_array().expect("a ledger has kinds");
    assert!(!rows.is_empty(), "a ledger without rows: {ledger}");
    for row in rows {
        let number = |key: &str| row[key].as_i64().unwrap_or_else(|| panic!("no number {key}: {row}"));
        let dropped: i64 = dropped(row, |_| true);
        let missing = number("observed") - number("delivered") - dropped - number("in_flight");
        assert_eq!(missing, number("imbalance"), "the agent adds up otherwise: {row}");
        if missing != 0 {
            return Err(Imbalance::Row(row.to_string()));
        }
    }
    Ok(())
}

/// Events of one row that were dropped for the reasons that `wanted` accepts.
pub fn dropped(row: &Value, wanted: impl Fn(&Value) -> bool) -> i64 {
    let parts = row["dropped"].as_array().expect("a row has drops");
    parts
        .iter()
        .filter(|part| wanted(part))
        .map(|part| part["count"].as_i64().expect("a count"))
        .sum()
}

/// The row of one kind.
pub fn row<'a>(ledger: &'a Value, kind: &str) -> &'a Value {
    let rows = ledger["kinds"].as_array().expect("a ledger has kinds");
    rows.iter()
        .find(|row| row["kind"] == kind)
        .unwrap_or_else(|| panic!("no row {kind}: {ledger}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ledger(delivered: i64, imbalance: i64) -> Value {
        let dropped = json!([{ "reason": "thread", "class": "policy", "count": 3 }, { "reason": "self", "class": "policy", "count": 1 }]);
        json!({ "consistent": true, "kinds": [{
            "kind": "process_started", "observed": 10, "delivered": delivered, "in_flight": 1,
            "dropped": dropped, "imbalance": imbalance,
        }] })
    }

    #[test]
    fn a_missing_event_is_noticed() {
        assert_eq!(balance(&ledger(5, 0)), Ok(()));
        assert!(matches!(balance(&ledger(4, 1)), Err(Imbalance::Row(_))));
        let mut moving = ledger(4, 1);
        moving["consistent"] = false.into();
        assert_eq!(balance(&moving), Err(Imbalance::Inconsistent));
    }

    #[test]
    #[should_panic(expected = "adds up otherwise")]
    fn a_claim_is_not_believed() {
        drop(balance(&ledger(4, 0)));
    }

    #[test]
    fn drops_are_found_by_reason() {
        let ledger = ledger(5, 0);
        assert_eq!(
            dropped(row(&ledger, "process_started"), |part| part["reason"] == "thread"),
            3
        );
    }
}
