//! Calls, permitted and refused.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::secrets::Redactor;
use crate::settings::Settings;

const SECOND_NS: u64 = 1_000_000_000;

/// One run of the tenant `default` under some settings.
pub(super) struct Run {
    tenant: Tenant,
    settings: Settings,
    spent: Spent,
    pub(super) rates: HttpRates,
    now_ns: u64,
}

impl Run {
    pub(super) fn under(vars: &[(&str, &str)]) -> Self {
        let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let (settings, _) = Settings::from_vars(vars, None, 2).unwrap();
        Self {
            tenant: Tenant::default_tenant(),
            settings,
            spent: Spent::default(),
            rates: HttpRates::default(),
            now_ns: 0,
        }
    }

    pub(super) fn fetching(allowlist: &str) -> Self {
        Self::under(&[
            ("WASM_CAPS", "http"),
            ("WASM_HTTP_ALLOWLIST", allowlist),
            ("WASM_HTTP_RPS", "1000"),
            ("WASM_HTTP_BURST", "1000"),
        ])
    }

    pub(super) fn terms(&self) -> Terms<'_> {
        Terms { tenant: &self.tenant, grants: &self.settings.grants, limits: &self.settings.limits }
    }

    pub(super) fn call(&mut self, call: Call) -> Result<Permit, Denial> {
        let mut spent = self.spent;
        let judged = judge(self.terms(), &mut spent, &self.rates, self.now_ns, call);
        self.spent = spent;
        judged
    }

    pub(super) fn fetch(&mut self, url: &str) -> Result<FetchPermit, Denial> {
        let call = Call::Fetch(FetchAsk { method: "get".into(), url: url.into(), ..FetchAsk::default() });
        match self.call(call)? {
            Permit::Fetch(permit) => Ok(*permit),
            other => panic!("{other:?}"),
        }
    }
}

fn emit_call(bytes: usize) -> Call {
    Call::Emit { event: "e".into(), data: vec![0; bytes] }
}

fn key(key: &str) -> KvAsk {
    KvAsk { namespace: String::new(), key: key.into() }
}

pub(super) fn ips(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|ip| ip.parse().unwrap()).collect()
}

#[test]
fn only_granted_kinds_are_permitted() {
    let calls = || {
        [
            emit_call(1),
            Call::Fetch(FetchAsk {
                method: "GET".into(),
                url: "https://a.com/".into(),
                ..FetchAsk::default()
            }),
            Call::KvGet(key("k")),
            Call::KvSet(key("k"), vec![]),
            Call::KvDelete(key("k")),
        ]
    };
    for caps in ["", "emit", "http", "kv", "emit,kv", "emit,http,kv"] {
        let mut run = Run::under(&[("WASM_CAPS", caps), ("WASM_HTTP_ALLOWLIST", "a.com")]);
        for call in calls() {
            let kind = call.kind();
            let granted = caps.split(',').any(|word| word == kind.cap());
            match run.call(call) {
                Ok(_) => assert!(granted, "{caps} {kind}"),
                Err(denial) => {
                    assert!(!granted, "{caps} {kind}");
                    assert_eq!((denial.rule(), denial.ends_run()), (Rule::CapMissing, false));
                    assert!(denial.remedy().contains(kind.cap()));
                }
            }
        }
    }
}

#[test]
fn the_budget_of_calls_ends_the_run_and_the_rate_does_not() {
    let mut run = Run::under(&[("WASM_SYSCALL_MAX", "5"), ("WASM_SYSCALL_RPS", "3")]);
    for _ in 0..3 {
        assert!(run.call(emit_call(0)).is_ok());
    }
    let limited = run.call(emit_call(0)).unwrap_err();
    assert_eq!((limited.rule(), limited.decision()), (Rule::CallRate, void_api::Decision::RateLimited));
    assert!(!limited.ends_run());
    run.now_ns += SECOND_NS;
    assert!(run.call(emit_call(0)).is_ok());
    let over = run.call(emit_call(0)).unwrap_err();
    assert!(over.ends_run());
    assert_eq!(over.rule(), Rule::CallBudget);
    // Refused calls are counted like all others.
    assert_eq!(run.spent.calls(), 6);
}

#[test]
fn bounds_of_emit_and_kv() {
    let mut run = Run::under(&[("WASM_CAPS", "emit,kv"), ("WASM_KV_MAX_VALUE_BYTES", "4")]);
    assert!(run.call(emit_call(65_536)).is_ok());
    assert_eq!(run.call(emit_call(65_537)).unwrap_err().rule(), Rule::TooLarge);
    for event in [String::new(), "a\n".into(), "x".repeat(257)] {
        assert_eq!(run.call(Call::Emit { event, data: vec![] }).unwrap_err().rule(), Rule::BadName);
    }
    assert!(run.call(Call::KvGet(key(&"k".repeat(256)))).is_ok());
    for bad in [String::new(), "k".repeat(257)] {
        assert_eq!(run.call(Call::KvGet(key(&bad))).unwrap_err().rule(), Rule::BadName);
    }
    for (namespace, fits) in [("", true), ("a.b-c_D1", true), ("a/b", false), ("..\0", false)] {
        let ask = KvAsk { namespace: namespace.into(), key: "k".into() };
        assert_eq!(run.call(Call::KvDelete(ask)).is_ok(), fits, "{namespace}");
    }
    assert_eq!(run.call(Call::KvSet(key("k"), vec![0; 5])).unwrap_err().rule(), Rule::TooLarge);
    let Ok(Permit::KvSet(permit)) = run.call(Call::KvSet(key("k"), vec![0; 4])) else { panic!() };
    assert_eq!((permit.max_keys(), permit.place().tenant().as_str()), (100, "default"));
    assert_eq!(permit.namespace_full().rule(), Rule::KeysFull);
}

/// Every part that a call can have.
const PARTS: [Part; 14] = [
    Part::EventName,
    Part::EventData,
    Part::Namespace(KvCall::Get),
    Part::Namespace(KvCall::Set),
    Part::Namespace(KvCall::Delete),
    Part::Key(KvCall::Get),
    Part::Key(KvCall::Set),
    Part::Key(KvCall::Delete),
    Part::Value,
    Part::Method,
    Part::Url,
    Part::HeaderText,
    Part::HeaderLines,
    Part::Body,
];

fn unfit(part: Part, misfit: Misfit) -> Call {
    Call::Unfit(Unfit { part, misfit })
}

#[test]
fn what_could_not_be_sent_is_refused_by_the_rule_of_its_part() {
    let mut run = Run::under(&[("WASM_CAPS", "emit,http,kv"), ("WASM_KV_MAX_VALUE_BYTES", "77")]);
    let large = Misfit::TooLarge { size: 200_001 };
    for (part, misfit, rule, most) in [
        (Part::EventName, large, Rule::TooLarge, "at most 256 bytes"),
        (Part::EventData, large, Rule::TooLarge, "at most 65536 bytes"),
        (Part::Namespace(KvCall::Get), large, Rule::TooLarge, "at most 64 bytes"),
        (Part::Key(KvCall::Delete), large, Rule::TooLarge, "at most 256 bytes"),
        (Part::Value, large, Rule::TooLarge, "at most 77 bytes"),
        (Part::Method, large, Rule::Method, "GET"),
        (Part::Url, large, Rule::TooLarge, "at most 8192 bytes"),
        (Part::HeaderText, large, Rule::TooLarge, "at most 16384 bytes"),
        (Part::HeaderLines, large, Rule::TooLarge, "at most 64 lines"),
        (Part::Body, large, Rule::TooLarge, "at most 131072 bytes"),
        (Part::EventName, Misfit::Invalid, Rule::BadName, "UTF-8"),
        (Part::Namespace(KvCall::Set), Misfit::Invalid, Rule::BadName, "letters"),
        (Part::Key(KvCall::Set), Misfit::Invalid, Rule::BadName, "UTF-8"),
        (Part::Method, Misfit::Invalid, Rule::Method, "GET"),
        (Part::Url, Misfit::Invalid, Rule::BadUrl, "https://"),
        (Part::HeaderText, Misfit::Invalid, Rule::BadHeader, "line feed"),
    ] {
        let denial = run.call(unfit(part, misfit)).unwrap_err();
        assert_eq!((denial.kind(), denial.rule(), denial.ends_run()), (part.kind(), rule, false), "{denial}");
        assert_eq!(denial.decision(), void_api::Decision::Deny);
        assert!(denial.remedy().contains(most), "{denial}");
        assert!(misfit == Misfit::Invalid || denial.reason().contains("200001"), "{denial}");
    }
}

#[test]
fn what_could_not_be_sent_is_counted_first_and_needs_the_cap_as_well() {
    let misfits = [Misfit::TooLarge { size: 0 }, Misfit::TooLarge { size: u32::MAX }, Misfit::Invalid];
    for caps in ["emit,http,kv", "emit", "http", "kv", ""] {
        let mut run = Run::under(&[("WASM_CAPS", caps), ("WASM_SYSCALL_MAX", "42")]);
        for part in PARTS {
            for misfit in misfits {
                let denial = run.call(unfit(part, misfit)).unwrap_err();
                let granted = caps.split(',').any(|word| word == part.kind().cap());
                assert_eq!(denial.rule() == Rule::CapMissing, !granted, "{caps}: {denial}");
                assert_eq!(denial.kind(), part.kind());
            }
        }
        let over = run.call(unfit(Part::EventData, misfits[0])).unwrap_err();
        assert_eq!((over.rule(), over.ends_run(), run.spent.calls()), (Rule::CallBudget, true, 43));
    }
    let mut run = Run::under(&[("WASM_SYSCALL_RPS", "1")]);
    assert_eq!(run.call(unfit(Part::EventData, Misfit::Invalid)).unwrap_err().rule(), Rule::BadName);
    assert_eq!(run.call(unfit(Part::EventData, Misfit::Invalid)).unwrap_err().rule(), Rule::CallRate);
    assert_eq!(run.call(emit_call(0)).unwrap_err().rule(), Rule::CallRate);
}

#[test]
fn urls_are_judged_by_what_they_mean() {
    for (url, rule) in [
        ("https://a.com/x?y#z", None),
        ("https://a.com:443/", None),
        ("HTTPS://A.COM\\x", None),
        ("https://a%2ecom/", None),
        ("ftp://a.com/", Some(Rule::Scheme)),
        ("file:///etc/passwd", Some(Rule::Scheme)),
        ("javascript:1", Some(Rule::Scheme)),
        ("//a.com/", Some(Rule::BadUrl)),
        ("a.com", Some(Rule::BadUrl)),
        ("", Some(Rule::BadUrl)),
        ("https://", Some(Rule::BadUrl)),
        ("https://user@a.com/", Some(Rule::UserInfo)),
        ("https://:pw@a.com/", Some(Rule::UserInfo)),
        ("https://a.com@evil.net/", Some(Rule::UserInfo)),
        ("https://evil.net/?a.com", Some(Rule::HostNotAllowed)),
        ("https://evil.net#a.com", Some(Rule::HostNotAllowed)),
        ("https://evil.net\\@a.com/", Some(Rule::HostNotAllowed)),
        ("https://a.com.evil.net/", Some(Rule::HostNotAllowed)),
        ("https://a.com:8443/", Some(Rule::HostNotAllowed)),
        ("http://2130706433/", Some(Rule::HostNotAllowed)),
        ("http://0x7f.1/", Some(Rule::HostNotAllowed)),
        ("http://①②⑦.0.0.1/", Some(Rule::HostNotAllowed)),
    ] {
        let judged = Run::fetching("a.com").fetch(url);
        assert_eq!(judged.as_ref().err().map(Denial::rule), rule, "{url}: {judged:?}");
    }
    let permit = Run::fetching("a.com").fetch("https://A.com/x#z").unwrap();
    assert_eq!((permit.url().as_str(), permit.method()), ("https://a.com/x", "GET"));
    assert!(Run::fetching("").fetch("https://a.com/").is_err());
}

#[test]
fn each_tenant_has_its_own_rate_for_each_host() {
    let mut run = Run::under(&[
        ("WASM_CAPS", "http"),
        ("WASM_HTTP_ALLOWLIST", "a.com,b.com"),
        ("WASM_HTTP_RPS", "2"),
        ("WASM_HTTP_BURST", "4"),
    ]);
    for _ in 0..4 {
        assert!(run.fetch("https://a.com/").is_ok());
    }
    let denial = run.fetch("https://A.com./").unwrap_err();
    assert_eq!((denial.rule(), denial.decision()), (Rule::HostRate, void_api::Decision::RateLimited));
    assert!(run.fetch("https://b.com/").is_ok());
    run.tenant = Tenant::new("other").unwrap();
    assert!(run.fetch("https://a.com/").is_ok());
    run.tenant = Tenant::default_tenant();
    run.now_ns += SECOND_NS / 2;
    assert!(run.fetch("https://a.com/").is_ok());
    assert!(run.fetch("https://a.com/").is_err());
}

#[test]
fn a_refused_request_costs_no_token() {
    let mut run =
        Run::under(&[("WASM_CAPS", "http"), ("WASM_HTTP_ALLOWLIST", "a.com"), ("WASM_HTTP_BURST", "1")]);
    for _ in 0..5 {
        assert_eq!(run.fetch("https://u@a.com/").unwrap_err().rule(), Rule::UserInfo);
    }
    assert!(run.fetch("https://a.com/").is_ok());
}

#[test]
fn denials_are_short_and_their_words_differ() {
    let denial = Run::fetching("a.com").fetch(&format!("https://{}.com/", "x".repeat(5000))).unwrap_err();
    assert!(denial.to_string().len() < 500, "{denial}");
    let words: std::collections::BTreeSet<_> = Rule::ALL.iter().map(|rule| rule.as_str()).collect();
    assert_eq!(words.len(), Rule::ALL.len());
    assert_eq!(denial.note(2).rule, denial.rule().as_str());
}

proptest! {
    #[test]
    fn any_url_is_judged_without_panic_and_only_the_allowed_host_gets_through(url in "(https?|ftp)?:?[/\\\\]{0,3}[a-z.@:%0-9/#?]{0,20}a?\\.?com[:/0-9.]{0,6}|.*") {
        if let Ok(permit) = Run::fetching("a.com").fetch(&url) {
            prop_assert!(matches!(permit.url().host_str(), Some("a.com" | "a.com.")), "{}", permit.url());
            prop_assert!(permit.url().port().is_none());
        }
    }

    #[test]
    fn any_redirect_is_judged_without_panic(location: String, status: u16) {
        let mut run = Run::fetching("a.com");
        let permit = run.fetch("https://a.com/").unwrap();
        if let Ok(next) = permit.redirect(run.terms(), &run.rates, 0, status, &location, &Redactor::default()) {
            prop_assert_eq!(next.url().host_str(), Some("a.com"));
        }
    }
}
