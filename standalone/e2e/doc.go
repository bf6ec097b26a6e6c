// Package e2e tests the product as its users meet it: real processes, sockets, databases, examples and docs.
package e2e
