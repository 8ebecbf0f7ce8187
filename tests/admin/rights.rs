//! Who may do what.

use http::StatusCode;
use idempotent_runtime::{Idempotency, admin::Admin};
use idempotent_tests::{backend::Backend, on_every_store};

use crate::{
    records::{abandoned, one_of_each},
    site::{ALICE, BOB, NOBODY, READER, Site, record},
};

on_every_store!(who_may_not_see_sees_nothing, who_may_not_act_changes_nothing);

async fn who_may_not_see_sees_nothing(backend: Backend) {
    let idempotency = Idempotency::new(backend.store().await);
    one_of_each(&idempotency, &backend).await;
    let site = Site::new(&idempotency);
    let form = site.form(ALICE, "each", "abandoned").await.with("verdict", "forget").with("reason", "because");
    for view in ["start", "records", "records?operation=each&key=ok", &record("each", "ok"), "nowhere"] {
        let reply = site.get(NOBODY, view).await.with(StatusCode::FORBIDDEN);
        reply.hides(&["each", "request 17", "abandoned", "<form"]);
    }
    site.post(NOBODY, &form).await.with(StatusCode::FORBIDDEN).hides(&["each"]);
    assert!(idempotency.inspect("each", "abandoned").await.unwrap().is_some());
}

async fn who_may_not_act_changes_nothing(backend: Backend) {
    let idempotency = Idempotency::new(backend.store().await);
    abandoned(&idempotency, "charge|order-17").await;
    let seen = idempotency.inspect("charge", "order-17").await.unwrap().unwrap().seen();
    let site = Site::new(&idempotency);
    let view = site.get(READER, &record("charge", "order-17")).await.with(StatusCode::OK);
    view.shows(&["You may look at records, and not resolve them.", "read only"])
        .hides(&["name=\"token\"", "method=\"post\""]);
    // The form of somebody who may.
    let form = site.form(ALICE, "charge", "order-17").await.with("verdict", "forget").with("reason", "because");
    site.post(READER, &form).await.with(StatusCode::FORBIDDEN).shows(&["does not let you resolve"]);
    assert_eq!(idempotency.inspect("charge", "order-17").await.unwrap().unwrap().seen(), seen);
}

/// A page without the hook has no actions, and a blank name is none.
#[tokio::test]
async fn actions_are_off_by_default() {
    let idempotency = Idempotency::memory();
    abandoned(&idempotency, "charge|order-17").await;
    let secret = [7; 32];
    let acting =
        Site::of(Admin::new(idempotency.clone(), |_| true).who_may_act(|_| Some("alice".to_owned())).secret(secret));
    let form = acting.form(NOBODY, "charge", "order-17").await.with("verdict", "forget").with("reason", "because");
    for silent in [
        Admin::new(idempotency.clone(), |_| true).secret(secret),
        Admin::new(idempotency.clone(), |_| true).secret(secret).who_may_act(|_| None),
        Admin::new(idempotency.clone(), |_| true).secret(secret).who_may_act(|_| Some(" ".to_owned())),
    ] {
        let silent = Site::of(silent);
        let view = silent.get(NOBODY, &record("charge", "order-17")).await.with(StatusCode::OK);
        view.hides(&["name=\"token\""]);
        silent.post(NOBODY, &form).await.with(StatusCode::FORBIDDEN);
        assert!(idempotency.inspect("charge", "order-17").await.unwrap().is_some());
    }
    // Another process with the same secret takes the form.
    let other =
        Site::of(Admin::new(idempotency.clone(), |_| true).who_may_act(|_| Some("alice".to_owned())).secret(secret));
    other.post(NOBODY, &form).await.with(StatusCode::OK);
    assert!(idempotency.inspect("charge", "order-17").await.unwrap().is_none());
}

/// A form is taken from this page, by this operator, about this record, once, for a while.
#[tokio::test]
async fn a_forged_form_is_refused() {
    let idempotency = Idempotency::memory();
    for key in ["charge|order-17", "charge|order-18"] {
        abandoned(&idempotency, key).await;
    }
    let site = Site::new(&idempotency);
    let other = Site::new(&idempotency);
    let form = async |site: &Site, person, key| {
        site.form(person, "charge", key).await.with("verdict", "forget").with("reason", "because")
    };
    let good = form(&site, ALICE, "order-17").await;
    let token = good.value("token").to_owned();
    let flipped = format!("{}{}", if token.starts_with('A') { 'B' } else { 'A' }, &token[1..]);
    let of_bob = form(&site, BOB, "order-17").await;
    let of_another = form(&site, ALICE, "order-18").await;
    for (what, form) in [
        ("missing", good.clone().without("token")),
        ("empty", good.clone().with("token", "")),
        ("made up", good.clone().with("token", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")),
        ("later", good.clone().with("token", &flipped)),
        ("cut", good.clone().with("token", &token[..token.len() - 2])),
        ("another operator's", of_bob),
        ("another record's", of_another.clone().with("key", "order-17")),
        ("another record's token", good.clone().with("token", of_another.value("token"))),
        ("another record's sight", good.clone().with("seen", of_another.value("seen"))),
        ("no sight", good.clone().without("seen")),
        ("another process's", form(&other, ALICE, "order-17").await),
    ] {
        let reply = site.post(ALICE, &form).await;
        assert_eq!(reply.status, StatusCode::FORBIDDEN, "{what}: {}", reply.body);
        reply.shows(&["Nothing was changed"]);
    }
    let old = Site::of(crate::site::admin(&idempotency).form_lifetime(std::time::Duration::ZERO));
    let expired = form(&old, ALICE, "order-17").await;
    old.post(ALICE, &expired).await.with(StatusCode::FORBIDDEN).shows(&["open for too long"]);
    for headers in [
        &[("sec-fetch-site", "cross-site"), ("origin", "https://shop.example")][..],
        &[("sec-fetch-site", "same-site"), ("origin", "https://evil.shop.example")],
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
        &[],
    ] {
        let reply = site.post_from(ALICE, &good, headers).await.with(StatusCode::FORBIDDEN);
        reply.shows(&["was not sent from this page"]);
    }
    for key in ["order-17", "order-18"] {
        assert!(idempotency.inspect("charge", key).await.unwrap().is_some());
    }
    // The good one, as an older browser sends it.
    site.post_from(ALICE, &good, &[("origin", "https://shop.example")]).await.with(StatusCode::OK);
    assert!(idempotency.inspect("charge", "order-17").await.unwrap().is_none());
}
