//! Texts that want to be more than text: in keys, operations, reasons, contexts, names, stored bytes and what is searched for.

use http::StatusCode;
use idempotent_runtime::{Error, Idempotency, Outcome};
use idempotent_tests::{backend::Backend, on_every_store};

use crate::{
    records::{claim, ended},
    site::{ALICE, LONG, READER, REVEALER, Site, record},
};

on_every_store!(hostile_texts_are_text);

const TEXTS: [&str; 9] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "' onmouseover='alert(1)",
    "</style><style>*{display:none}</style>",
    "</textarea><form action=//evil.example>",
    "&lt;b&gt;&#x3c;b&#x3e;",
    "a\0b\u{1b}[2Jc\u{7f}d",
    "\u{202e}txt.exe\u{2066}\u{200f}",
    "javascript:alert(1)//`code`",
];

/// Asserts that a page has no tag, no attribute and no character that came from a text.
#[track_caller]
fn is_clean(body: &str) {
    for bad in ["<script", "<img", "<style", "onerror=alert(1)>", "\0", "\u{1b}", "\u{7f}", "\u{202e}", "\u{2066}"] {
        assert!(!body.contains(bad), "{bad:?} in {body}");
    }
    // Every tag is one of ours.
    for tag in body.split('<').skip(1) {
        let name: String = tag.chars().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '!' | '/')).collect();
        let known = [
            "!DOCTYPE",
            "html",
            "head",
            "meta",
            "title",
            "link",
            "body",
            "header",
            "nav",
            "a",
            "p",
            "main",
            "section",
            "h1",
            "h2",
            "article",
            "ul",
            "li",
            "span",
            "bdi",
            "form",
            "label",
            "input",
            "select",
            "option",
            "button",
            "table",
            "thead",
            "tbody",
            "tr",
            "th",
            "td",
            "div",
            "figure",
            "figcaption",
            "strong",
            "svg",
            "line",
            "g",
            "rect",
            "i",
            "b",
            "dl",
            "dt",
            "dd",
            "fieldset",
            "legend",
            "textarea",
            "code",
        ];
        assert!(known.contains(&name.trim_start_matches('/')), "<{name} in {body}");
    }
}

async fn hostile_texts_are_text(backend: Backend) {
    let idempotency = Idempotency::new(backend.store().await);
    let site = Site::new(&idempotency);
    let long = "<b>long</b>".repeat(48);
    for text in TEXTS.into_iter().chain([&*long]) {
        // Names of operations and keys are percent-encoded; a context is stored as it is, without its zeros.
        let operation = format!("op{}", &text.chars().take(60).collect::<String>());
        let call = idempotency.call(operation.clone()).key(text).run(async { Ok::<_, Error>(text.to_owned()) });
        call.await.unwrap();
        let key = idempotency.inspect(&operation, text).await.unwrap().unwrap().key;
        is_clean(&site.get(REVEALER, &record(key.operation(), key.key())).await.with(StatusCode::OK).body);
        assert!(idempotency.forget_record(&key).await.unwrap());
        let context = idempotent_context(text);
        claim(&idempotency, key.as_str(), LONG, &context).await;
        is_clean(&site.get(READER, &record(key.operation(), key.key())).await.with(StatusCode::OK).body);
        assert!(idempotency.forget_record(&key).await.unwrap());

        // As a result, a reason and an operator's text.
        ended(&idempotency, key.as_str(), Outcome::Exhausted).await;
        is_clean(&site.get(READER, "start").await.with(StatusCode::OK).body);
        let form = site.form(ALICE, key.operation(), key.key()).await;
        let json = serde_json::to_string(text).unwrap();
        let mistaken = form.clone().with("verdict", text).with("json", &format!("{text} {json}")).with("reason", text);
        let again = site.post(ALICE, &mistaken).await.with(StatusCode::UNPROCESSABLE_ENTITY).body;
        // What was typed comes back as it was, in a field.
        let fields = again.replace(['\0', '\u{1b}', '\u{7f}', '\u{202e}', '\u{2066}'], "");
        is_clean(&fields);
        let reason: String = text.chars().take(200).collect();
        let good = form.with("verdict", "result").with("json", &json).with("reason", &reason);
        is_clean(&site.post(ALICE, &good).await.with(StatusCode::OK).body);
        for person in [READER, REVEALER] {
            is_clean(&site.get(person, &record(key.operation(), key.key())).await.with(StatusCode::OK).body);
        }
        // As what is searched for, and where no key can be.
        let asked = key.key();
        for view in [
            format!("records?operation={asked}&state={asked}&digest={asked}"),
            format!("records?operation={asked}&key={asked}"),
            format!("records?state={asked}"),
            format!("record?operation={asked}&key=%00"),
            format!("start?after={asked}"),
            asked.to_owned(),
        ] {
            let body = site.get(READER, &view).await.body;
            is_clean(&body.replace(['\0', '\u{1b}', '\u{7f}', '\u{202e}', '\u{2066}'], ""));
        }
        assert!(idempotency.forget_record(&key).await.unwrap());
    }
}

/// A context as the library lets one through to a store.
fn idempotent_context(text: &str) -> String {
    text.replace('\0', "\u{fffd}").chars().take(250).collect()
}

/// The name of an operator is somebody's text, too.
#[tokio::test]
async fn an_operators_name_is_text() {
    let idempotency = Idempotency::memory();
    for text in TEXTS {
        ended(&idempotency, "charge|order-17", Outcome::Exhausted).await;
        let name = format!(" {text}{}", "x".repeat(500));
        let admin = idempotent_runtime::admin::Admin::new(idempotency.clone(), |_| true)
            .who_may_act(move |_| Some(name.clone()));
        let site = Site::of(admin);
        let form = site.form(READER, "charge", "order-17").await.with("verdict", "rerun").with("reason", "because");
        is_clean(&site.post(READER, &form).await.with(StatusCode::OK).body);
        is_clean(&site.get(READER, &record("charge", "order-17")).await.with(StatusCode::OK).body);
        let context = idempotency.inspect("charge", "order-17").await.unwrap().unwrap().context.unwrap();
        assert!(context.ends_with(": because") && context.len() < 400, "{context}");
        assert!(idempotency.forget("charge", "order-17").await.unwrap());
    }
}
