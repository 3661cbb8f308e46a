//! The rules of how markers are kept: what only a row for each marker can do.

use crate::attr::Attr;
use crate::errors::Errors;
use crate::key::Key;
use crate::markers::Markers;
use crate::words::Word;

/// The rules of packed markers, and of those that there are not.
pub(super) fn markers(attr: &Attr, errors: &mut Errors) {
    let Word::Given((markers, span)) = &attr.markers else { return };
    if let Word::Given(Key::Offset(_)) = &attr.key {
        errors.at(
            *span,
            "`key = offset` keeps no markers; leave `markers` out, or take the key from the event",
        );
        return;
    }
    if *markers == Markers::Rows {
        return;
    }
    if let Word::Absent = &attr.topics {
        errors.at(
            *span,
            "packed markers are the memory of a partition of a topic, and this handler reads none: \
             add `topic = \"..\"`, or write `markers = \"rows\"`",
        );
    }
    if let Word::Given((_, span)) = &attr.store_result {
        errors.at(
            *span,
            "a result is stored in the row of its marker, which a packed marker does not have; \
             leave `store_result` out, or write `markers = \"rows\"`",
        );
    }
    if let Word::Given((_, span)) = &attr.payload_check {
        errors.at(
            *span,
            "a payload is compared with what the row of its marker says, which a packed marker does \
             not have; leave `payload_check` out, or write `markers = \"rows\"`",
        );
    }
    if let Word::Given((_, span)) = &attr.effects {
        errors.at(
            *span,
            "an attempt is written down in the row of its marker, which a packed marker does not \
             have; write `markers = \"rows\"`",
        );
    }
}
