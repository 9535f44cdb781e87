//! What a guest is answered: a reply, the body that follows it in parts, and which code stands for which rule.

use bytes::Bytes;
use void_ipc::limits::PART_BYTES;
use void_ipc::message::{Refusal, Reply, ToRun};
use void_policy::judge::Rule;

/// An answer to a gateway call.
#[derive(Debug)]
pub(crate) struct Answer {
    reply: Reply,
    body: Bytes,
}

impl Answer {
    /// An answer without a body.
    pub(crate) fn plain(reply: Reply) -> Answer {
        Answer { reply, body: Bytes::new() }
    }

    /// An answer whose body follows.
    pub(super) fn with_body(reply: Reply, body: Bytes) -> Answer {
        Answer { reply, body }
    }

    /// A refusal.
    pub(super) fn refused(refusal: Refusal) -> Answer {
        Answer::plain(Reply::Refused(refusal))
    }

    /// The messages that make it up, in order. At most one part of the body is held twice at a time.
    pub(crate) fn into_messages(self) -> impl Iterator<Item = ToRun> {
        let Answer { reply, mut body } = self;
        let parts = std::iter::from_fn(move || {
            let next = body.split_to(body.len().min(PART_BYTES));
            (!next.is_empty()).then(|| ToRun::Part(next.to_vec()))
        });
        std::iter::once(ToRun::Reply(reply)).chain(parts)
    }
}

/// The code that a guest gets when this rule refuses.
pub(super) const fn refusal(rule: Rule) -> Refusal {
    match rule {
        Rule::CapMissing
        | Rule::CallBudget
        | Rule::EmitBudget
        | Rule::Scheme
        | Rule::UserInfo
        | Rule::HostNotAllowed
        | Rule::AddressNotPublic
        | Rule::TooManyRedirects
        | Rule::Header
        | Rule::Secret => Refusal::Denied,
        Rule::CallRate | Rule::HostRate => Refusal::RateLimited,
        Rule::TooLarge => Refusal::TooLarge,
        Rule::BadUrl | Rule::Method | Rule::BadHeader | Rule::BadName => Refusal::Invalid,
        Rule::KeysFull | Rule::NamespacesFull => Refusal::Full,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::refuses;

    const PAGE: &str = include_str!("../../../docs/gateway.md");

    /// The name in docs/abi.md.
    fn code(refusal: Refusal) -> &'static str {
        match refusal {
            Refusal::Denied => "VOID_DENIED",
            Refusal::RateLimited => "VOID_RATE_LIMITED",
            Refusal::TooLarge => "VOID_TOO_LARGE",
            Refusal::Invalid => "VOID_INVALID",
            Refusal::Full => "VOID_FULL",
            Refusal::TimedOut => "VOID_TIMED_OUT",
            Refusal::Unreachable => "VOID_UNREACHABLE",
            Refusal::Unavailable => "VOID_UNAVAILABLE",
        }
    }

    #[test]
    fn the_page_has_every_rule_as_it_is() {
        let rows: Vec<String> = Rule::ALL
            .iter()
            .map(|rule| {
                let caps: Vec<&str> =
                    ["emit", "http", "kv"].into_iter().filter(|cap| refuses(cap, *rule)).collect();
                format!("| `{}` | {} | `{}` | ", rule.as_str(), caps.join(", "), code(refusal(*rule)))
            })
            .collect();
        for row in &rows {
            let found =
                PAGE.lines().any(|line| line.strip_prefix(row).is_some_and(|meaning| meaning.len() > 10));
            assert!(found, "docs/gateway.md lacks this row, to be ended with what refuses:\n{row}");
        }
        let shown = PAGE.lines().filter(|line| line.starts_with("| `") && line.contains("| `VOID_")).count();
        assert_eq!(shown, rows.len(), "docs/gateway.md has a rule that there is not, or one twice");
    }

    #[test]
    fn a_body_goes_in_parts_of_the_largest_size() {
        for (length, parts) in
            [(0, vec![]), (1, vec![1]), (PART_BYTES, vec![PART_BYTES]), (PART_BYTES + 1, vec![PART_BYTES, 1])]
        {
            let answer = Answer::with_body(Reply::Done, Bytes::from(vec![7; length]));
            let mut messages = answer.into_messages();
            assert_eq!(messages.next(), Some(ToRun::Reply(Reply::Done)));
            let sizes: Vec<usize> = messages
                .map(|message| match message {
                    ToRun::Part(part) => part.len(),
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(sizes, parts);
        }
    }
}
