//! Who may send, and how that is verified.

use clap::Args;
use idempotent_runtime::{ConfigError, webhooks::Verifier};

/// For trying it out. They are in this file, so that anybody has them.
const STRIPE: &str = "whsec_stripe-demo";
const GITHUB: &str = "github-demo";
const STANDARD: &str = "whsec_c3RhbmRhcmQtd2ViaG9va3MtZGVtby1zZWNyZXQ=";

/// One secret, or several that are valid at the same time.
#[derive(Args)]
pub(crate) struct Secrets {
    /// Of the endpoint at Stripe.
    #[arg(long, env = "STRIPE_WEBHOOK_SECRET", hide_env_values = true, value_name = "SECRETS", default_value = STRIPE)]
    stripe_secret: String,
    /// Of the repository's webhook at GitHub.
    #[arg(long, env = "GITHUB_WEBHOOK_SECRET", hide_env_values = true, value_name = "SECRETS", default_value = GITHUB)]
    github_secret: String,
    /// Of the sender that follows Standard Webhooks.
    #[arg(
        long,
        env = "STANDARD_WEBHOOK_SECRET",
        hide_env_values = true,
        value_name = "SECRETS",
        default_value = STANDARD
    )]
    standard_secret: String,
}

impl Secrets {
    /// Those of this file, by the names of their variables. The others are nobody's business.
    pub(crate) fn of_demo(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let used = [
            ("STRIPE_WEBHOOK_SECRET", STRIPE, &self.stripe_secret),
            ("GITHUB_WEBHOOK_SECRET", GITHUB, &self.github_secret),
            ("STANDARD_WEBHOOK_SECRET", STANDARD, &self.standard_secret),
        ];
        used.into_iter().filter(|(_, demo, used)| demo == used).map(|(name, demo, _)| (name, demo))
    }
}

/// One verifier for each sender.
pub(crate) struct Verifiers {
    pub(crate) stripe: Verifier,
    pub(crate) github: Verifier,
    pub(crate) standard: Verifier,
}

impl Verifiers {
    pub(crate) fn new(secrets: &Secrets) -> Result<Self, ConfigError> {
        Ok(Self {
            stripe: Verifier::stripe(secrets.stripe_secret.split(','))?,
            github: Verifier::github(secrets.github_secret.split(','))?,
            standard: Verifier::standard(secrets.standard_secret.split(','))?,
        })
    }
}
