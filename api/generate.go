package api

//go:generate go run ./serverdoc openapi.yaml openapi.server.yaml
//go:generate go tool -modfile=../tools/go.mod oapi-codegen -config oapi-codegen.yaml openapi.server.yaml
