package webhook

import (
	"net/netip"
	"strconv"
	"strings"
)

// parseIPv4 reads one to four parts as inet_aton(3) does: each decimal, octal after 0 or hexadecimal after 0x, the last
// filling the remaining bytes.
func parseIPv4(labels []string) (netip.Addr, bool) {
	if len(labels) > 4 {
		return netip.Addr{}, false
	}
	var value uint64
	for i, label := range labels {
		part, ok := parseIPv4Part(label)
		last := i == len(labels)-1
		switch {
		case !ok:
			return netip.Addr{}, false
		case last:
			bits := 8 * (4 - i)
			if part >= 1<<bits {
				return netip.Addr{}, false
			}
			value = value<<bits | part
		case part > 255:
			return netip.Addr{}, false
		default:
			value = value<<8 | part
		}
	}
	return netip.AddrFrom4([4]byte{byte(value >> 24), byte(value >> 16), byte(value >> 8), byte(value)}), true
}

func parseIPv4Part(s string) (uint64, bool) {
	base := 10
	switch {
	case strings.HasPrefix(s, "0x"):
		s, base = s[2:], 16
		if s == "" { // inet_aton reads "0x" as 0
			return 0, true
		}
	case len(s) > 1 && s[0] == '0':
		s, base = s[1:], 8
	}
	n, err := strconv.ParseUint(s, base, 64)
	return n, err == nil
}
