package install

import (
	"crypto/sha512"
	"io"
	"strconv"
)

// SHA-512-crypt, as crypt(5) has it under $6$: Ulrich Drepper's "Unix crypt using
// SHA-256 and SHA-512", version 0.6 (https://www.akkadia.org/drepper/SHA-crypt.txt). It
// is here because no image need have a program that hashes passwords, and because
// one written to this format is understood by every Linux. Who prefers another hash gives one
// in the answers.

// cryptRounds makes one guess cost some 0.2 s of a processor.
const cryptRounds = 300_000

const cryptAlphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// hashPassword hashes a password with a salt of 16 characters from random.
func hashPassword(password string, random io.Reader) (string, error) {
	salt := make([]byte, 16)
	if _, err := io.ReadFull(random, salt); err != nil {
		return "", err
	}
	for i, b := range salt {
		salt[i] = cryptAlphabet[b&63]
	}
	return sha512Crypt([]byte(password), salt, cryptRounds), nil
}

// sha512Crypt follows the numbered steps of the specification.
func sha512Crypt(key, salt []byte, rounds int) string {
	repeat := func(b []byte, n int) []byte {
		out := make([]byte, 0, n)
		for len(out) < n {
			out = append(out, b[:min(len(b), n-len(out))]...)
		}
		return out
	}
	b := sha512.New() // 4 to 8
	b.Write(key)
	b.Write(salt)
	b.Write(key)
	sumB := b.Sum(nil)

	a := sha512.New() // 1 to 3
	a.Write(key)
	a.Write(salt)
	a.Write(repeat(sumB, len(key)))     // 9, 10
	for n := len(key); n > 0; n >>= 1 { // 11
		if n&1 != 0 {
			a.Write(sumB)
		} else {
			a.Write(key)
		}
	}
	sumA := a.Sum(nil) // 12

	dp := sha512.New() // 13 to 15
	for range key {
		dp.Write(key)
	}
	p := repeat(dp.Sum(nil), len(key)) // 16
	ds := sha512.New()                 // 17 to 19
	for range 16 + int(sumA[0]) {
		ds.Write(salt)
	}
	s := repeat(ds.Sum(nil), len(salt)) // 20

	sum := sumA
	for i := range rounds { // 21
		c := sha512.New()
		if i&1 != 0 {
			c.Write(p)
		} else {
			c.Write(sum)
		}
		if i%3 != 0 {
			c.Write(s)
		}
		if i%7 != 0 {
			c.Write(p)
		}
		if i&1 != 0 {
			c.Write(sum)
		} else {
			c.Write(p)
		}
		sum = c.Sum(sum[:0:0])
	}
	return "$6$rounds=" + strconv.Itoa(rounds) + "$" + string(salt) + "$" + cryptEncode(sum) // 22
}

// cryptEncode writes the 64 bytes six bits at a time, lowest first, in the
// specification's order: columns of 21, each row begun one column further on.
func cryptEncode(sum []byte) string {
	var out []byte
	put := func(v uint32, n int) {
		for range n {
			out = append(out, cryptAlphabet[v&63])
			v >>= 6
		}
	}
	at := [3]int{0, 21, 42}
	for i := range 21 {
		a, b, c := sum[at[i%3]+i], sum[at[(i+1)%3]+i], sum[at[(i+2)%3]+i]
		put(uint32(a)<<16|uint32(b)<<8|uint32(c), 4)
	}
	put(uint32(sum[63]), 2)
	return string(out)
}
