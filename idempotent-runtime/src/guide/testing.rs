//! 11. Test your functions with repeats, faults and time.
