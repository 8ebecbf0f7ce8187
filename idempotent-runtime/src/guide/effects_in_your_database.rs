//! 8. Commit your rows and the result in one transaction.
