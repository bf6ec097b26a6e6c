package cli

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
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
