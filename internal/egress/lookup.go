package egress

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
)

// confirmed calls do, which looks up a name, and believes "no such host" only where it holds for each address family. Go asks
// for both and passes on one of two failures: of a resolver that fails to answer for IPv4 and has "none" for IPv6 it says "no
// such host" too, for which a receiver is blamed without a check. Both families are asked at once: ctx has no trace that minds.
func confirmed[T any](ctx context.Context, r *net.Resolver, name string, do func() (T, error)) (T, error) {
	result, err := do()
	if !isNotFound(err) {
		return result, err
	}
	found, faults := lookUpFamilies(ctx, r, name)
	if len(found[0])+len(found[1]) > 0 {
		if result, err = do(); isNotFound(err) { // a resolver that contradicts itself
			err = &net.DNSError{Err: "contradictory answers", Name: name, IsTemporary: true}
		}
		return result, err
	}
	return result, cmp.Or(realFault(faults[0]), realFault(faults[1]), err)
}

// lookUpFamilies looks up a name's IPv4 addresses and, by itself, its IPv6 addresses: one may be answered alone.
func lookUpFamilies(ctx context.Context, r *net.Resolver, name string) (found [2][]netip.Addr, faults [2]error) {
	var asked sync.WaitGroup
	for i, family := range []string{"ip4", "ip6"} {
		asked.Go(func() { found[i], faults[i] = r.LookupNetIP(ctx, family, name) })
	}
	asked.Wait()
	return found, faults
}

// realFault is err, unless it says that a name has no address of a family.
func realFault(err error) error {
	if isNotFound(err) || errors.As(err, new(*net.AddrError)) {
		return nil
	}
	return err
}

// isNotFound reports whether a resolver says that there is no such name, or none with an address.
func isNotFound(err error) bool {
	dns := (*net.DNSError)(nil)
	return errors.As(err, &dns) && dns.IsNotFound
}
