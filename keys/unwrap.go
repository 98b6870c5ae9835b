package keys

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// Unwrap opens the first slot that it can and returns the seal key and that
// slot's id. The identities are tried on all age slots; only if none matches
// and there is a passphrase slot is pass asked, once, and tried on those. pass
// may be nil: then there is no passphrase. If nothing opens, the error has kind
// [fault.WrongKey] and lists the slots that there are.
//
// The slots may be hostile: their size, number and scrypt cost are bounded. The
// caller compares the key with the manifest's check ([SealKey.VerifyCheck]).
func Unwrap(slots []Slot, ids []age.Identity, pass func() (string, error)) (SealKey, string, error) {
	return opener{maxWorkFactor: maxWorkFactor, workLeft: maxTotalWork}.unwrap(slots, ids, pass)
}

// opener carries the bounds on the work that slots may cause.
type opener struct {
	maxWorkFactor int
	workLeft      int
	refusals      []string // why the slots tried so far did not open
}

func (o opener) unwrap(slots []Slot, ids []age.Identity, pass func() (string, error)) (SealKey, string, error) {
	if len(slots) == 0 {
		return SealKey{}, "", fault.New(fault.WrongKey, "there are no keyslots to open").
			WithHint("give the key file that sealed the model, or the detached keyslots")
	}
	if err := CheckSlots(slots); err != nil {
		return SealKey{}, "", err
	}
	if len(ids) > 0 {
		k, id, err := o.tryAll(slots, TypeAge, ids)
		if id != "" || err != nil {
			return k, id, err
		}
	}
	if pass == nil || !hasType(slots, TypePassphrase) {
		return SealKey{}, "", o.failure(slots, len(ids) > 0, false)
	}
	passphrase, err := pass()
	if err != nil {
		return SealKey{}, "", err
	}
	identity, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return SealKey{}, "", errEmptyPassphrase("the passphrase")
	}
	identity.SetMaxWorkFactor(o.maxWorkFactor)
	k, id, err := o.tryAll(slots, TypePassphrase, []age.Identity{identity})
	if id != "" || err != nil {
		return k, id, err
	}
	return SealKey{}, "", o.failure(slots, len(ids) > 0, true)
}

// tryAll tries the identities on every slot of a type. A slot that does not open
// stops nothing, whatever is wrong with it; an identity that fails for a reason
// of its own (a fault, such as a wrong passphrase of an SSH key) does.
func (o *opener) tryAll(slots []Slot, typ string, ids []age.Identity) (SealKey, string, error) {
	for _, s := range slots {
		if s.Type != typ {
			continue
		}
		k, err := o.open(s, ids)
		if err == nil {
			return k, s.ID, nil
		}
		var own *fault.Error
		if errors.As(err, &own) {
			return SealKey{}, "", own
		}
		if !errors.Is(err, age.ErrIncorrectIdentity) {
			o.refusals = append(o.refusals, fmt.Sprintf("keyslot %s: %v", s.ID, err))
		}
	}
	return SealKey{}, "", nil
}

// open decrypts one slot, whose payload must be a seal key and nothing more.
func (o *opener) open(s Slot, ids []age.Identity) (SealKey, error) {
	file, err := dearmor(s.Data)
	if err != nil {
		return SealKey{}, err
	}
	if s.Type == TypePassphrase {
		if err := o.spend(file); err != nil {
			return SealKey{}, err
		}
	}
	r, err := age.Decrypt(bytes.NewReader(file), ids...)
	if err != nil {
		return SealKey{}, err
	}
	payload, err := io.ReadAll(io.LimitReader(r, Size+1))
	if err != nil {
		return SealKey{}, err
	}
	if len(payload) != Size {
		return SealKey{}, fmt.Errorf("the payload is not a key of %d bytes", Size)
	}
	return SealKey(payload), nil
}

func dearmor(data string) ([]byte, error) {
	if len(data) > maxSlotData {
		return nil, fmt.Errorf("data has more than %d bytes", maxSlotData)
	}
	return io.ReadAll(armor.NewReader(strings.NewReader(data)))
}

// spend takes a slot's scrypt cost out of the budget, before it is paid.
func (o *opener) spend(file []byte) error {
	logN, err := scryptWork(file)
	if err != nil {
		return err
	}
	if logN > o.maxWorkFactor {
		return fmt.Errorf("its scrypt work factor is %d, at most %d is accepted", logN, o.maxWorkFactor)
	}
	if o.workLeft -= 1 << logN; o.workLeft < 0 {
		return errors.New("the passphrase slots before it were too costly, so it was not tried")
	}
	return nil
}

// scryptWork returns log2 of the scrypt cost that an age file asks for, and 0 if
// it asks for none.
func scryptWork(file []byte) (int, error) {
	header, err := age.ExtractHeader(bytes.NewReader(file))
	if err != nil {
		return 0, err
	}
	sc := bufio.NewScanner(bytes.NewReader(header))
	for sc.Scan() {
		if f := strings.Fields(sc.Text()); len(f) == 4 && f[0] == "->" && f[1] == "scrypt" {
			logN, err := strconv.ParseUint(f[3], 10, 32)
			if err != nil {
				return math.MaxInt32, nil
			}
			return int(min(logN, math.MaxInt32)), nil
		}
	}
	return 0, nil
}

func hasType(slots []Slot, typ string) bool {
	for _, s := range slots {
		if s.Type == typ {
			return true
		}
	}
	return false
}

// failure says what was tried and what there is, and never a secret.
func (o *opener) failure(slots []Slot, ids, passphrase bool) error {
	var tried string
	switch {
	case ids && passphrase:
		tried = "neither the identities nor the passphrase open a keyslot"
	case ids:
		tried = "no identity opens a keyslot"
	case passphrase:
		tried = "the passphrase opens no keyslot"
	default:
		tried = "no identity and no passphrase was given"
	}
	err := fault.New(fault.WrongKey, "%s; there are: %s", tried, describeSlots(slots))
	if len(o.refusals) > 0 {
		err.Msg += fmt.Sprintf(" (%s)", strings.Join(o.refusals[:min(len(o.refusals), 5)], "; "))
	}
	switch {
	case !hasType(slots, TypePassphrase):
		return err.WithHint("give the identity (private key) of one of the recipients")
	case !hasType(slots, TypeAge):
		return err.WithHint("give the passphrase of one of the keyslots")
	}
	return err.WithHint("give the identity of one of the recipients, or the passphrase")
}
