package main

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

func TestTheDocumentIsCurrent(t *testing.T) {
	document, err := os.ReadFile("../openapi.yaml")
	require.NoError(t, err)
	drawn, err := draw(string(document), webhook.Catalog())
	require.NoError(t, err)
	require.Equal(t, string(document), drawn, "run make generate")
}

func TestDraw_ANewEvent(t *testing.T) {
	document, err := os.ReadFile("../openapi.yaml")
	require.NoError(t, err)
	drawn, err := draw(string(document), append(webhook.Catalog(), webhook.EventSpec{
		Type: "wiki.page_reverted", Audience: webhook.Broadcast, Description: "A page was set back.",
		Fields: []webhook.Field{{Name: "minor", Description: "Whether it is \"minor\".", Example: "true"}, {Name: "pages", Example: "[]"}},
	}))
	require.NoError(t, err)
	require.Contains(t, drawn, ", wiki.page_reverted]\n")
	require.Contains(t, drawn, "        - { name: minor, in: query, ")
	require.NotContains(t, drawn, "- { name: pages, in: query")
	require.Contains(t, drawn, "      operationId: onWikiPageReverted\n")
	require.Contains(t, drawn, "                    minor: { type: boolean, description: \"Whether it is \\\"minor\\\".\" }\n")
	again, err := draw(drawn, webhook.Catalog())
	require.NoError(t, err)
	require.Equal(t, string(document), again)

	_, err = draw("openapi: 3.1.0\n", webhook.Catalog())
	require.EqualError(t, err, "the enum of EventType: found 0 times")
}
