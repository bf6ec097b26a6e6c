package webhook_test

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

// notations are the ways of writing an IPv4 address that some resolver understands.
func notations(ip netip.Addr) []string {
	b := ip.As4()
	n := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	short := n & 0xffffff
	return []string{
		ip.String(), ip.String() + ".",
		strconv.FormatUint(uint64(n), 10), fmt.Sprintf("0%o", n), fmt.Sprintf("0000%o", n), fmt.Sprintf("%#x", n), fmt.Sprintf("0X%X", n), fmt.Sprintf("0x%08x", n),
		fmt.Sprintf("%d.%d", b[0], short), fmt.Sprintf("%#x.%d", b[0], short), fmt.Sprintf("%#o.%#x", b[0], short),
		fmt.Sprintf("%d.%d.%d", b[0], b[1], n&0xffff), fmt.Sprintf("%#x.%#x.%#x", b[0], b[1], n&0xffff),
		fmt.Sprintf("%#o.%#o.%#o.%#o", b[0], b[1], b[2], b[3]), fmt.Sprintf("%#x.%#x.%#x.%#x", b[0], b[1], b[2], b[3]),
		fmt.Sprintf("0%03o.0%03o.0%03o.0%03o", b[0], b[1], b[2], b[3]), fmt.Sprintf("0x%02X.%d.%#o.%d", b[0], b[1], b[2], b[3]),
	}
}

func TestURLsOfSpecialAddressesAreRefusedInEveryNotation(t *testing.T) {
	cases := 0
	refused := func(host string, of any) {
		t.Helper()
		for _, raw := range []string{"https://" + host + "/", "https://" + host + ":8443/x?y"} {
			_, err := webhook.URLRules{}.Check(raw)
			require.Error(t, err, "%s, of %v", raw, of)
			cases++
		}
	}
	for _, r := range specialRanges {
		for _, ip := range edges(netip.MustParsePrefix(r)) {
			if ip.Is6() {
				refused("["+ip.String()+"]", r)
				refused("["+ip.StringExpanded()+"]", r)
				refused("["+strings.ToUpper(ip.StringExpanded())+"]", r)
				continue
			}
			for _, host := range notations(ip) {
				refused(host, r)
			}
			for _, carrier := range carriers(ip) {
				refused("["+carrier.StringExpanded()+"]", r)
			}
			refused("[::ffff:"+ip.String()+"]", r)
			refused("[64:ff9b::"+ip.String()+"]", r)
			refused("[::"+ip.String()+"]", r)
		}
	}
	require.Greater(t, cases, 2000)
}

func TestURLsOfPublicAddressesMeanTheSameInEveryNotation(t *testing.T) {
	for _, text := range publicAddresses {
		ip := netip.MustParseAddr(text)
		if ip.Is6() {
			got, err := webhook.URLRules{}.Check("https://[" + ip.StringExpanded() + "]/")
			require.NoError(t, err)
			require.Equal(t, "https://["+ip.String()+"]/", got)
			continue
		}
		for _, host := range notations(ip) {
			got, err := webhook.URLRules{}.Check("https://" + host + "/")
			require.NoError(t, err, host)
			require.Equal(t, "https://"+text+"/", got)
		}
	}
}
