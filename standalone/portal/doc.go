// Package portal tests the portal in a real browser, against the whole product.
package portal
