//! The `Prefer` header of RFC 7240, of which this service knows `wait`.

use hyper::header::HeaderMap;
use void_api::limits::WAIT_MAX_SECONDS;

/// Seconds that the client would wait for its answer, cut to what is offered. Preferences that are unknown or malformed
/// are ignored, and of several the first counts, as the standard has it.
pub(super) fn wait(headers: &HeaderMap) -> Option<u32> {
    headers.get_all("prefer").iter().find_map(|value| in_list(value.to_str().ok()?))
}

fn in_list(list: &str) -> Option<u32> {
    // A comma inside quotes cuts a preference in two; neither half is a `wait` that is not one.
    list.split(',').find_map(|preference| {
        let preference = preference.split(';').next()?;
        let (name, value) = preference.split_once('=')?;
        if !name.trim().eq_ignore_ascii_case("wait") {
            return None;
        }
        let value = value.trim();
        let value = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
        seconds(value)
    })
}

/// A whole number of seconds, cut to what is offered.
pub(super) fn seconds(text: &str) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // More digits than fit are more than is offered.
    Some(text.parse().unwrap_or(u32::MAX).min(WAIT_MAX_SECONDS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_is_found_among_others() {
        for (list, expected) in [
            ("wait=10", Some(10)),
            ("wait=0", Some(0)),
            ("WAIT = 7", Some(7)),
            ("respond-async, wait=100", Some(60)),
            ("wait=\"5\"", Some(5)),
            ("wait=5; foo=bar", Some(5)),
            ("wait=99999999999999999999", Some(60)),
            ("wait=3, wait=9", Some(3)),
            ("wait=x, wait=9", Some(9)),
            ("wait", None),
            ("wait=", None),
            ("wait=-1", None),
            ("wait=+1", None),
            ("wait=1.5", None),
            ("wait=x", None),
            ("waiting=5", None),
            ("handling=lenient", None),
            ("", None),
            (",;=,", None),
        ] {
            assert_eq!(in_list(list), expected, "{list}");
        }
    }
}
