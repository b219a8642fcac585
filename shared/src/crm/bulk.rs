//! The jobs of bulk changes.

use super::customers::Customer;
use super::leads::Lead;
use super::orders::Order;
use crate::bulk::BulkChange;

/// A bulk change of leads.
pub type BulkLeads = BulkChange<Lead>;
/// A bulk change of customers.
pub type BulkCustomers = BulkChange<Customer>;
/// A bulk change of orders.
pub type BulkOrders = BulkChange<Order>;
