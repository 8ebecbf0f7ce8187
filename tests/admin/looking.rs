//! What the page shows.

use std::{collections::BTreeSet, future::pending, sync::Arc};

use http::StatusCode;
use idempotent_runtime::{Error, Idempotency, Outcome, operator::NextRequest, step};
use idempotent_tests::{backend::Backend, on_every_store};
use tokio::sync::Notify;

use crate::{
    records::{abandoned, ended, one_of_each},
    site::{ALICE, READER, REVEALER, Site, record},
};

on_every_store!(
    what_needs_somebody_comes_first,
    a_record_is_found,
    a_record_is_explained,
    stored_bytes_are_hidden,
    steps_are_hidden,
    pages_go_on,
);

async fn what_needs_somebody_comes_first(backend: Backend) {
    let idempotency = Idempotency::new(backend.store().await);
    let site = Site::new(&idempotency);
    site.get(READER, "start").await.with(StatusCode::OK).shows(&["Nothing needs you.", "There are no records."]);
    one_of_each(&idempotency, &backend).await;
    let start = site.get(READER, "start").await.with(StatusCode::OK);
    let (needs, rest) = start.body.split_once("<form class=\"search\"").unwrap();
    // Where the store keeps dead letters, they stand for the records.
    let is_sql = idempotency.store().dead_letters().is_some();
    for word in ["abandoned", "lapsed", "exhausted", "dead"] {
        let link = format!("href=\"record?operation=each&amp;key={word}\"");
        assert_eq!(needs.contains(&link), word != "dead" || !is_sql, "{word}: {needs}");
    }
    assert!(needs.contains("request 17"), "{needs}");
    for word in ["running", "failed", "ok", "error", "not-kept"] {
        assert!(!needs.contains(&format!("key={word}")), "{word}: {needs}");
    }
    for word in ["running", "failed", "ok", "error", "not-kept", "abandoned", "lapsed", "exhausted", "dead"] {
        let count = format!("operation=each&amp;state={word}\"><span class=\"state {word}\">{word}</span> 1</a>");
        assert!(rest.contains(&count), "{word}: {rest}");
    }
    start.hides(&["canary", "there are more"]);
}

async fn a_record_is_found(backend: Backend) {
    let idempotency = Idempotency::new(backend.store().await);
    let site = Site::new(&idempotency);
    let call = idempotency.call("shop/charge").key("order 17").run(async { Ok::<_, Error>(1) });
    call.await.unwrap();
    idempotency.call("shop/charge").key(17).run(async { Ok::<_, Error>(1) }).await.unwrap();
    let of_text = record("shop%2Fcharge", "order%2017");
    let digest = idempotency.inspect("shop/charge", "order 17").await.unwrap().unwrap().key.digest();
    for (search, found) in [
        ("operation=shop/charge&key=order+17".to_owned(), &of_text),
        ("operation=shop%252Fcharge&key=order%252017".to_owned(), &of_text),
        ("operation=shop/charge&key=17".to_owned(), &record("shop%2Fcharge", "~17")),
        (format!("digest={digest}"), &of_text),
        (format!("operation=shop/charge&digest={digest}&key=+"), &of_text),
    ] {
        let reply = site.get(READER, &format!("records?{search}")).await.with(StatusCode::SEE_OTHER);
        let view = site.get(READER, reply.location()).await.with(StatusCode::OK);
        let wanted = site.get(READER, found).await.with(StatusCode::OK);
        let facts = |body: &str| body.split_once("<dl").unwrap().1.split_once("attempt").unwrap().0.to_owned();
        assert_eq!(facts(&view.body), facts(&wanted.body), "{search}");
    }
    for (search, status, says) in [
        ("operation=shop/charge&key=18", StatusCode::NOT_FOUND, "The key has no record"),
        ("key=17", StatusCode::UNPROCESSABLE_ENTITY, "name it, too"),
        ("digest=0123456789abcdeg", StatusCode::UNPROCESSABLE_ENTITY, "16 hex digits"),
        ("state=finished", StatusCode::UNPROCESSABLE_ENTITY, "names no state"),
        ("digest=0123456789abcdef", StatusCode::OK, "No record."),
        ("state=abandoned", StatusCode::OK, "No record."),
        ("operation=shop/charge&state=ok", StatusCode::OK, "order%2017"),
        ("", StatusCode::OK, "order%2017"),
    ] {
        site.get(READER, &format!("records?{search}")).await.with(status).shows(&[says]);
    }
    site.get(READER, &record("shop%2Fcharge", "18")).await.with(StatusCode::NOT_FOUND).shows(&["runs as attempt 1"]);
    site.get(READER, &record("a b", "c")).await.with(StatusCode::BAD_REQUEST);
    site.get(READER, "nowhere").await.with(StatusCode::NOT_FOUND).shows(&["no such view"]);
}

async fn a_record_is_explained(backend: Backend) {
    let idempotency = Idempotency::new(backend.store().await);
    one_of_each(&idempotency, &backend).await;
    let site = Site::new(&idempotency);
    for word in ["running", "failed", "ok", "error", "not-kept", "abandoned", "lapsed", "exhausted", "dead"] {
        let key = format!("each|{word}").parse().unwrap();
        let view = site.get(ALICE, &record("each", word)).await.with(StatusCode::OK);
        let explained = idempotency.operator().explain_record(&key, &NextRequest::Unknown).await.unwrap();
        for line in explained.lines(None) {
            // Times go on between the two looks, and code is marked.
            let line = line.split(['`', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']).next().unwrap();
            assert!(!line.is_empty() && view.body.contains(line), "{word}: {line} in {}", view.body);
        }
        view.shows(&[&format!("<span class=\"state {word}\">"), "key digest", &key.digest().to_string(), "request 17"]);
        let can_say = |what: &str| view.body.contains(&format!("value=\"{what}\" required"));
        let is_open = ["failed", "not-kept", "abandoned", "lapsed", "exhausted"].contains(&word);
        assert_eq!([can_say("result"), can_say("error"), can_say("rerun")], [is_open; 3], "{word}");
        assert_eq!(can_say("forget"), word != "running", "{word}");
    }
}

async fn stored_bytes_are_hidden(backend: Backend) {
    let idempotency = Idempotency::new(backend.store().await);
    one_of_each(&idempotency, &backend).await;
    let site = Site::new(&idempotency);
    for word in ["ok", "error", "abandoned"] {
        for person in [READER, ALICE] {
            let view = site.get(person, &record("each", word)).await.with(StatusCode::OK);
            view.shows(&["bytes, hidden"]).hides(&["canary"]);
        }
        site.get(REVEALER, &record("each", word)).await.shows(&["{&quot;card&quot;:&quot;canary-argument&quot;}"]);
    }
    site.get(REVEALER, &record("each", "ok")).await.shows(&["canary-result"]);
    site.get(REVEALER, &record("each", "error")).await.shows(&["canary-error"]);
    // Without the hook, nobody sees them.
    let silent = Site::of(idempotent_runtime::admin::Admin::new(idempotency, |_| true));
    silent
        .get(REVEALER, &record("each", "ok"))
        .await
        .with(StatusCode::OK)
        .hides(&["canary", "<form class=\"resolve\""]);
}

/// Their names, too: one may hold an argument.
async fn steps_are_hidden(backend: Backend) {
    let idempotency = Idempotency::new(backend.store().await);
    let site = Site::new(&idempotency);
    let recorded = Arc::new(Notify::new());
    let run = tokio::spawn({
        let (idempotency, recorded) = (idempotency.clone(), Arc::clone(&recorded));
        async move {
            let body = async {
                step("canary-step", async { Ok::<_, Error>("canary-value".to_owned()) }).await?;
                recorded.notify_one();
                pending::<Result<(), Error>>().await
            };
            idempotency.call("stepped").key("a").run(body).await
        }
    });
    recorded.notified().await;
    let view = site.get(READER, &record("stepped", "a")).await.with(StatusCode::OK);
    view.shows(&["1 step, hidden"]).hides(&["canary"]);
    site.get(REVEALER, &record("stepped", "a")).await.shows(&["canary-step", "canary-value"]);
    run.abort();
}

/// Follows the links from page to page, and finds each record.
async fn pages_go_on(backend: Backend) {
    let idempotency = Idempotency::new(backend.store().await);
    let site = Site::new(&idempotency);
    for number in 0..120 {
        ended(&idempotency, &format!("many|key-{number}"), Outcome::Exhausted).await;
    }
    abandoned(&idempotency, "other|key").await;
    for view in ["records?operation=many", "records?operation=many&state=exhausted"] {
        let (found, views) = follow(&site, view.to_owned()).await;
        assert_eq!(found.len(), 120, "{view}: {found:?}");
        assert!(views < 130, "{views}");
    }
}

/// The keys that are linked from a view and from those that follow, and how many views there are.
async fn follow(site: &Site, first: String) -> (BTreeSet<String>, usize) {
    let (mut found, mut next, mut views) = (BTreeSet::new(), Some(first), 0);
    while let Some(view) = next {
        views += 1;
        let reply = site.get(READER, &view).await.with(StatusCode::OK);
        let keys = reply.body.split("href=\"record?").skip(1).map(|rest| rest.split_once('"').unwrap().0.to_owned());
        found.extend(keys);
        let link = reply.body.split_once("\">Look at the next ones").map(|(before, _)| before);
        next = link.map(|before| before.rsplit_once("href=\"").unwrap().1.replace("&amp;", "&"));
    }
    (found, views)
}

/// A view is about so many records at most, says so, and leads on.
#[tokio::test]
async fn a_view_has_an_end() {
    let idempotency = Idempotency::memory();
    let site = Site::new(&idempotency);
    for number in 0..12_000 {
        idempotency.call("many").key(number).run(async { Ok::<_, Error>(()) }).await.unwrap();
    }
    for number in 0..3 {
        abandoned(&idempotency, &format!("many|lost-{number}")).await;
    }
    let first = site.get(READER, "start").await.with(StatusCode::OK);
    first.shows(&["there are more", "Look at the next ones"]);
    let (found, views) = follow(&site, "start".to_owned()).await;
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(views >= 3, "{views} views of 5,000 records at most");
    let (found, views) = follow(&site, "records?state=abandoned".to_owned()).await;
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(views >= 3, "{views} views of 5,000 records at most");
}

#[tokio::test]
async fn every_answer_has_its_headers() {
    let site = Site::new(&Idempotency::memory());
    for view in [
        "start",
        "records",
        "record?operation=a&key=b",
        "record",
        "nowhere",
        "style.css",
        "icon.svg",
        "resolve",
        "records?key=x",
    ] {
        for person in [READER, crate::site::NOBODY] {
            let reply = site.get(person, view).await;
            let policy = reply.headers["content-security-policy"].to_str().unwrap();
            for directive in [
                "default-src 'none'",
                "style-src 'self'",
                "form-action 'self'",
                "frame-ancestors 'none'",
                "base-uri 'none'",
            ] {
                assert!(policy.contains(directive), "{view}: {policy}");
            }
            assert!(!policy.contains("unsafe"), "{policy}");
            for (name, value) in [
                ("x-content-type-options", "nosniff"),
                ("referrer-policy", "same-origin"),
                ("cache-control", "no-store"),
            ] {
                assert_eq!(reply.headers[name], value, "{view}: {name}");
            }
            reply.hides(&["<script", " style=", "href=\"javascript", "href=\"http", "src=\"http"]);
        }
    }
}

/// Wherever it is mounted, its mount leads to the start, and no link knows where that is.
#[tokio::test]
async fn it_works_below_any_path() {
    use axum::Router;
    use tower::ServiceExt as _;

    let page = || crate::site::admin(&Idempotency::memory()).router::<()>();
    for (service, path, expected) in [
        (Router::new().nest("/admin", page()), "/admin", "./admin/start"),
        (Router::new().nest("/a/b", page()), "/a/b", "./b/start"),
        (Router::new().nest_service("/admin", page()), "/admin/", "start"),
        (page(), "/", "start"),
    ] {
        let request = http::Request::get(path).header("x-sees", "").body(axum::body::Body::empty()).unwrap();
        let reply = service.oneshot(request).await.unwrap();
        assert_eq!(
            (reply.status(), reply.headers()["location"].to_str().unwrap()),
            (StatusCode::SEE_OTHER, expected),
            "{path}"
        );
    }
    let idempotency = Idempotency::memory();
    abandoned(&idempotency, "charge|a").await;
    let start = Site::new(&idempotency).get(ALICE, "start").await;
    for link in start.body.split("href=\"").chain(start.body.split("action=\"")).skip(1) {
        assert!(
            link.starts_with(|c: char| c.is_ascii_lowercase() || c == '#') || link.starts_with("<!DOCTYPE"),
            "{link}"
        );
    }
}

/// The chart is of this process's calls since a page was made.
#[tokio::test]
async fn calls_of_the_last_hour_are_shown() {
    let idempotency = Idempotency::memory();
    let site = Site::new(&idempotency);
    let call = async |amount: u32| {
        idempotency.call("shown.in.the.chart").key("a").arguments(&amount).run(async { Ok::<_, Error>(()) }).await
    };
    call(1).await.unwrap();
    call(1).await.unwrap();
    call(2).await.unwrap_err();
    let start = site.get(READER, "start").await;
    let chart = start.body.split_once("<strong><bdi>shown.in.the.chart").unwrap().1.split_once("</figure>").unwrap().0;
    for text in ["3 calls", "1 executed, 1 replayed, 1 refused", "<rect class=\"executed\"", "<rect class=\"refused\""]
    {
        assert!(chart.contains(text), "{text} in {chart}");
    }
}
