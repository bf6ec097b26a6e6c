package cli

import (
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	mathub "github.com/mathub/webhooks/clients/go"
)

func TestWhatStrangersWroteCommandsNoTerminal(t *testing.T) {
	t.Parallel()
	for written, shown := range map[string]string{
		`{"body":"plain, ünïcode, 数学 and 🧮"}`:    `{"body":"plain, ünïcode, 数学 and 🧮"}`,
		"{\"body\":\"\u009b2J\u009d0;x\u009c\"}": `{"body":"\u009b2J\u009d0;x\u009c"}`,
		"{\"body\":\"\x7f\u202eevil\u2066\"}":    `{"body":"\u007f\u202eevil\u2066"}`,
		"{\"body\":\"\U000e0041\"}":              `{"body":"\udb40\udc41"}`,
	} {
		require.True(t, json.Valid([]byte(written)))
		got := visible(json.RawMessage(written))
		require.Equal(t, shown, got)
		require.JSONEq(t, written, got, "it says the same")
	}
}

// TestJSONCommandsNoTerminal: it says what the API said, in JSON's own escapes.
func TestJSONCommandsNoTerminal(t *testing.T) {
	const written = "{\"body\":\"\u009b2J\u202e\"}"
	reader, writer, err := os.Pipe()
	require.NoError(t, err)
	stdout := os.Stdout
	os.Stdout = writer
	err = outputFlags{JSON: true}.show([]byte("["+written+",\n\t"+written+"]\n"), nil) // what it prints fits into the pipe
	(&session{}).line(mathub.PolledEvent{ID: "e1", Type: "post.created", Data: json.RawMessage(written)}, nil)
	os.Stdout = stdout
	require.NoError(t, err)
	require.NoError(t, writer.Close())
	out, err := io.ReadAll(reader)
	require.NoError(t, err)
	require.NotContains(t, string(out), "\u009b")
	require.NotContains(t, string(out), "\u202e")
	dec := json.NewDecoder(strings.NewReader(string(out)))
	var list []map[string]string
	require.NoError(t, dec.Decode(&list))
	var event struct{ Data map[string]string }
	require.NoError(t, dec.Decode(&event))
	for _, data := range append(list, event.Data) {
		require.Equal(t, "\u009b2J\u202e", data["body"])
	}
}
