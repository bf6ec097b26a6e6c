// Package clients holds programs that use the API through clients which other projects' generators make of openapi.json.
package clients

//go:generate go tool ogen --target ogen/client --package client --clean --config ogen.yaml openapi.json
//go:generate go tool oapi-codegen -generate client,types -package client -o oapi-codegen/client/client.go openapi.json
