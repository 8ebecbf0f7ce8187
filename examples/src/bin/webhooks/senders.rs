//! The senders: their secrets and their verifiers.

use clap::Args;
use idempotent_runtime::{SetupError, webhooks::Verifier};

/// Secrets for trying it out. They are in this file, so everybody has them.
const STRIPE: &str = "whsec_stripe-demo";
const GITHUB: &str = "github-demo";
const STANDARD: &str = "whsec_c3RhbmRhcmQtd2ViaG9va3MtZGVtby1zZWNyZXQ=";

/// One secret, or several that are valid at the same time.
#[derive(Args)]
pub(crate) struct Secrets {
    /// Secrets of the endpoint at Stripe.
    #[arg(long = "stripe-secret", env = "STRIPE_WEBHOOK_SECRET", default_value = STRIPE)]
    #[arg(hide_env_values = true, value_name = "SECRETS")]
    stripe: String,
    /// Secrets of the repository's webhook at GitHub.
    #[arg(long = "github-secret", env = "GITHUB_WEBHOOK_SECRET", default_value = GITHUB)]
    #[arg(hide_env_values = true, value_name = "SECRETS")]
    github: String,
    /// Secrets of the sender that follows Standard Webhooks.
    #[arg(long = "standard-secret", env = "STANDARD_WEBHOOK_SECRET", default_value = STANDARD)]
    #[arg(hide_env_values = true, value_name = "SECRETS")]
    standard: String,
}

impl Secrets {
    /// The secrets of this file that are in use, each with the name of its variable. Real secrets are never printed.
    pub(crate) fn of_demo(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let used = [
            ("STRIPE_WEBHOOK_SECRET", STRIPE, &self.stripe),
            ("GITHUB_WEBHOOK_SECRET", GITHUB, &self.github),
            ("STANDARD_WEBHOOK_SECRET", STANDARD, &self.standard),
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
    pub(crate) fn new(secrets: &Secrets) -> Result<Self, SetupError> {
        Ok(Self {
            stripe: Verifier::stripe(secrets.stripe.split(','))?,
            github: Verifier::github(secrets.github.split(','))?,
            standard: Verifier::standard(secrets.standard.split(','))?,
        })
    }
}
