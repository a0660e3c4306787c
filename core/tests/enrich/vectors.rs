//! Keys and tokens for the tests, made by other implementations: the keys by the Python library `cryptography` (50.0), the
//! tokens by `PyJWT` (2.15), except `TOKEN_CONFUSED` and `TOKEN_NONE`, which it refuses to make: those are put together with
//! Python's `base64` and `hmac`. All tokens have these claims, and all but those two the header's `kid` "k1":
//! `{"iss": "https://risk.example.com", "iat": 1458496025, "jti": "123", "action": "challenge",
//!   "custom_claims": {"role": "gold", "points": 12.5}, "data": {"score": 0.97, "tags": ["new device"]},
//!   "reason": "new device", "user_message": "Is it you?"}`.

/// For HS256: the bytes 0 to 31.
pub(crate) const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// Signed with `SECRET`.
pub(crate) const TOKEN_HS256: &str = "\
eyJhbGciOiJIUzI1NiIsImtpZCI6ImsxIiwidHlwIjoiSldUIn0.eyJpc3MiOiJodHRwczovL3Jpc2suZXhhbXBsZS5jb20iLCJpYXQiOjE0NT\
g0OTYwMjUsImp0aSI6IjEyMyIsImFjdGlvbiI6ImNoYWxsZW5nZSIsImN1c3RvbV9jbGFpbXMiOnsicm9sZSI6ImdvbGQiLCJwb2ludHMiOjEy\
LjV9LCJkYXRhIjp7InNjb3JlIjowLjk3LCJ0YWdzIjpbIm5ldyBkZXZpY2UiXX0sInJlYXNvbiI6Im5ldyBkZXZpY2UiLCJ1c2VyX21lc3NhZ2\
UiOiJJcyBpdCB5b3U_In0.I0xJRFZi87otrT62SNEGLHH8JlSYqAsor2Ab_DfDydg";

/// Signed with `RSA_PRIVATE`.
pub(crate) const TOKEN_RS256: &str = "\
eyJhbGciOiJSUzI1NiIsImtpZCI6ImsxIiwidHlwIjoiSldUIn0.eyJpc3MiOiJodHRwczovL3Jpc2suZXhhbXBsZS5jb20iLCJpYXQiOjE0NT\
g0OTYwMjUsImp0aSI6IjEyMyIsImFjdGlvbiI6ImNoYWxsZW5nZSIsImN1c3RvbV9jbGFpbXMiOnsicm9sZSI6ImdvbGQiLCJwb2ludHMiOjEy\
LjV9LCJkYXRhIjp7InNjb3JlIjowLjk3LCJ0YWdzIjpbIm5ldyBkZXZpY2UiXX0sInJlYXNvbiI6Im5ldyBkZXZpY2UiLCJ1c2VyX21lc3NhZ2\
UiOiJJcyBpdCB5b3U_In0.h2b5TWAd9uZ4s4CfGgFodiRDp2SFfIMKYKo9gynb6Rx-7YIt0G0ST0aaRnJz6w2wOpn8_hAEAZakOuUbNZsduAzz\
qaOOS94lGVBPEpLZ7MR3OhGpLtRfBh960JVIApP0CuqAGL7_don6LkQf9eYf5DdT-0tg3oBVaOf3JCbGG33ujn1FfUEqbKEI4PEwRoki_QS9XC\
YWzVBc4I4EeGPTIrQaoowANPR0Ds_xp6ZWlJO-KVcn1AZWruQjeYcmmSre5Gc64YhkAfHqy5munzdcSaUVCK1_I4tvEKfO35rCOz_GXNq9rljN\
S6V9rGa5mH1QVBeRnzl7TpEalD14U3HWkQ";

/// Signed with `EC_PRIVATE`.
pub(crate) const TOKEN_ES256: &str = "\
eyJhbGciOiJFUzI1NiIsImtpZCI6ImsxIiwidHlwIjoiSldUIn0.eyJpc3MiOiJodHRwczovL3Jpc2suZXhhbXBsZS5jb20iLCJpYXQiOjE0NT\
g0OTYwMjUsImp0aSI6IjEyMyIsImFjdGlvbiI6ImNoYWxsZW5nZSIsImN1c3RvbV9jbGFpbXMiOnsicm9sZSI6ImdvbGQiLCJwb2ludHMiOjEy\
LjV9LCJkYXRhIjp7InNjb3JlIjowLjk3LCJ0YWdzIjpbIm5ldyBkZXZpY2UiXX0sInJlYXNvbiI6Im5ldyBkZXZpY2UiLCJ1c2VyX21lc3NhZ2\
UiOiJJcyBpdCB5b3U_In0.p2U1B4-TJEWQWFm_IKSug3Ia_2-RxNGTvWcSzRpJy5HMzCr6Jw4QXa3jNcsO465ZsKkeZxVBFYYBhz5-kRNFYg";

/// Signed with `ED_PRIVATE`.
pub(crate) const TOKEN_EDDSA: &str = "\
eyJhbGciOiJFZERTQSIsImtpZCI6ImsxIiwidHlwIjoiSldUIn0.eyJpc3MiOiJodHRwczovL3Jpc2suZXhhbXBsZS5jb20iLCJpYXQiOjE0NT\
g0OTYwMjUsImp0aSI6IjEyMyIsImFjdGlvbiI6ImNoYWxsZW5nZSIsImN1c3RvbV9jbGFpbXMiOnsicm9sZSI6ImdvbGQiLCJwb2ludHMiOjEy\
LjV9LCJkYXRhIjp7InNjb3JlIjowLjk3LCJ0YWdzIjpbIm5ldyBkZXZpY2UiXX0sInJlYXNvbiI6Im5ldyBkZXZpY2UiLCJ1c2VyX21lc3NhZ2\
UiOiJJcyBpdCB5b3U_In0.pGxhaKvPzvCXK-hnBlFfH6U09C-4xbrhlHprDPZLYigKrnruoC4jYNSusOWRrvRtjh6BCqjbivq-nIc5G5alBg";

/// HS256 with the text of `RSA_PUBLIC` as the secret.
pub(crate) const TOKEN_CONFUSED: &str = "\
eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL3Jpc2suZXhhbXBsZS5jb20iLCJpYXQiOjE0NTg0OTYwMjUsImp0a\
SI6IjEyMyIsImFjdGlvbiI6ImNoYWxsZW5nZSIsImN1c3RvbV9jbGFpbXMiOnsicm9sZSI6ImdvbGQiLCJwb2ludHMiOjEyLjV9LCJkYXRhIjp\
7InNjb3JlIjowLjk3LCJ0YWdzIjpbIm5ldyBkZXZpY2UiXX0sInJlYXNvbiI6Im5ldyBkZXZpY2UiLCJ1c2VyX21lc3NhZ2UiOiJJcyBpdCB5b\
3U_In0.FbpFvaGk69YLN5PQkfjBggXHS455bvGTqT-AMlgUN_I";

/// `"alg": "none"` and no signature.
pub(crate) const TOKEN_NONE: &str = "\
eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJpc3MiOiJodHRwczovL3Jpc2suZXhhbXBsZS5jb20iLCJpYXQiOjE0NTg0OTYwMjUsImp0aS\
I6IjEyMyIsImFjdGlvbiI6ImNoYWxsZW5nZSIsImN1c3RvbV9jbGFpbXMiOnsicm9sZSI6ImdvbGQiLCJwb2ludHMiOjEyLjV9LCJkYXRhIjp7\
InNjb3JlIjowLjk3LCJ0YWdzIjpbIm5ldyBkZXZpY2UiXX0sInJlYXNvbiI6Im5ldyBkZXZpY2UiLCJ1c2VyX21lc3NhZ2UiOiJJcyBpdCB5b3\
U_In0.";

/// 2048 bits.
pub(crate) const RSA_PUBLIC: &str = "\
-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEArN9v6N1ye71t+djPlogR
atn7gUenGYzH4Ru4VuK8SGObgr0+By5scX9FF4fnDpaMIXQs4fkcp7GFdImOQBa7
lMm3qjMr/ahagBtdsA4836iCtERi9Eop56CL+O5YrCO6YX2Arjov5qCzdS3vzFw3
p21vxnEOoCTT6BvuuDj7Nq0Wk3Wd8Ni61fqKrRg93mbHv8saqISsvzzcAB5o6nzE
SdEExxebJ86Oj2Ct0pUAe4HeZkjivONgsnoY1xIP2oauB2yLCv2kzunNMhCzZ/Ku
iHXdSPxHJbWFS1soQdFjdtPS+kJvf/P7LtVjxvGvZ9nzMYKvE1FCCM1BHVXp4ViX
UwIDAQAB
-----END PUBLIC KEY-----
";

/// `RSA_PUBLIC` without its wrapper (PKCS #1).
pub(crate) const RSA_PUBLIC_PKCS1: &str = "\
-----BEGIN RSA PUBLIC KEY-----
MIIBCgKCAQEArN9v6N1ye71t+djPlogRatn7gUenGYzH4Ru4VuK8SGObgr0+By5s
cX9FF4fnDpaMIXQs4fkcp7GFdImOQBa7lMm3qjMr/ahagBtdsA4836iCtERi9Eop
56CL+O5YrCO6YX2Arjov5qCzdS3vzFw3p21vxnEOoCTT6BvuuDj7Nq0Wk3Wd8Ni6
1fqKrRg93mbHv8saqISsvzzcAB5o6nzESdEExxebJ86Oj2Ct0pUAe4HeZkjivONg
snoY1xIP2oauB2yLCv2kzunNMhCzZ/KuiHXdSPxHJbWFS1soQdFjdtPS+kJvf/P7
LtVjxvGvZ9nzMYKvE1FCCM1BHVXp4ViXUwIDAQAB
-----END RSA PUBLIC KEY-----
";

/// PKCS #8.
pub(crate) const RSA_PRIVATE: &str = "\
-----BEGIN PRIVATE KEY-----
MIIEvAIBADANBgkqhkiG9w0BAQEFAASCBKYwggSiAgEAAoIBAQCs32/o3XJ7vW35
2M+WiBFq2fuBR6cZjMfhG7hW4rxIY5uCvT4HLmxxf0UXh+cOlowhdCzh+RynsYV0
iY5AFruUybeqMyv9qFqAG12wDjzfqIK0RGL0SinnoIv47lisI7phfYCuOi/moLN1
Le/MXDenbW/GcQ6gJNPoG+64OPs2rRaTdZ3w2LrV+oqtGD3eZse/yxqohKy/PNwA
HmjqfMRJ0QTHF5snzo6PYK3SlQB7gd5mSOK842CyehjXEg/ahq4HbIsK/aTO6c0y
ELNn8q6Idd1I/EcltYVLWyhB0WN209L6Qm9/8/su1WPG8a9n2fMxgq8TUUIIzUEd
VenhWJdTAgMBAAECggEADjEtV04JNLzPxAfqih5zZTT7FfLdD/BqUmhu4Rct9oVs
gjaC2p6swXT9pf/+vJUocPCml9cJmEzIurecqYjhCOCC+jwt1USJrxdQDc2SOsxZ
p27Ioh4nXYz+umBOGee4lYG/qDRxTUfavV9L+GUghPErkK+K0CPl3IBtv/43+K+C
pfqZox3IjPv1qL+2vj8+n7fgRtX0vgrR7UUcLiTeP0Ywjw1jMHyOpUKHpvvF+biV
fpHP2oXfDhZ2q1ZUBQqTMLoSb2BQGnqiKUeLL1zfbSB352gQ+HOQP7Oq66wDhHNt
QzRogsTbjQbOapV5eOupdWJ5qnPruDXZkq7YGvRIiQKBgQDhjlx2VHzIhKxRIdRp
TKzt0w9+PxO+uGznBg9US2ODg588QIIApEdkxZGxIVz50YpoahigR3iA8zyyNuRg
6HQrQgmWILfoVtIG3JhxGXQVRU5LCLud7azK3OO4XGjjK2h9DgJqrVHNRsNLi/4y
Kn/Dw72jb1Owi3tVh7vYb1eQmQKBgQDENLXS6nPvBssSCrd4uIO76ZQHUi/Ohfg1
CRotxmS7LdVocrx0yvWH05oUyWEXIwFN/aFCMzeEIbyCwqMASWhP5vFEvBVQYm/f
sGzji0RYhg2/ZGuZZIGlU4QRm5Ws0CT0BMn6q4rfiphY3WD4bBz+CtGUphIHio74
4u80kw8eywKBgCifNgHNp4eJdWtLN3EbcQ2H9INdItY3as2UptAcn7iAzP3R9Fff
Pkhk2J9ZDeCkH1Q8v2CmXoqCxAyonCrj0oAz7XwPOm/qqvq3YfEEj4aBK9+RnBCO
TI9ghtaeNfmryK61BjRmMJRSyTti5A3u34HHT/EOTLk/9Z9qyabqLpAJAoGAcTPI
RCypPxu4RmyQdsJenyihE6hDlPCOyGq8A/UXYTeMjXrFaM1A5GEd4ShfMC4uLoVL
aRqLyVx9myQZT60K1i70vSeXVI225mSwLojHohuWCvsxaYsnke+hn1cZAGAHMhMh
RdN7iIY6Z+sya6JVB+3OBenbNSaoXsjwInFGpAkCgYA1//ekHgBsIA43slnB61U9
MNEipm5rg+0gEdBBHMcWsd5E/xxCKlUmXIr+hiDlOLGBDL4hQ6jYNyYCDQXyuXlO
S8azWsBTj6WHhNrLFDGZSqyYJ8hpiWehByDmaGMp4aL4ihRrU2EFbEeVrXKXeSQl
okPajTamjGZjjzu46DOj5A==
-----END PRIVATE KEY-----
";

/// The same as PKCS #1.
pub(crate) const RSA_PRIVATE_PKCS1: &str = "\
-----BEGIN RSA PRIVATE KEY-----
MIIEogIBAAKCAQEArN9v6N1ye71t+djPlogRatn7gUenGYzH4Ru4VuK8SGObgr0+
By5scX9FF4fnDpaMIXQs4fkcp7GFdImOQBa7lMm3qjMr/ahagBtdsA4836iCtERi
9Eop56CL+O5YrCO6YX2Arjov5qCzdS3vzFw3p21vxnEOoCTT6BvuuDj7Nq0Wk3Wd
8Ni61fqKrRg93mbHv8saqISsvzzcAB5o6nzESdEExxebJ86Oj2Ct0pUAe4HeZkji
vONgsnoY1xIP2oauB2yLCv2kzunNMhCzZ/KuiHXdSPxHJbWFS1soQdFjdtPS+kJv
f/P7LtVjxvGvZ9nzMYKvE1FCCM1BHVXp4ViXUwIDAQABAoIBAA4xLVdOCTS8z8QH
6ooec2U0+xXy3Q/walJobuEXLfaFbII2gtqerMF0/aX//ryVKHDwppfXCZhMyLq3
nKmI4Qjggvo8LdVEia8XUA3NkjrMWaduyKIeJ12M/rpgThnnuJWBv6g0cU1H2r1f
S/hlIITxK5CvitAj5dyAbb/+N/ivgqX6maMdyIz79ai/tr4/Pp+34EbV9L4K0e1F
HC4k3j9GMI8NYzB8jqVCh6b7xfm4lX6Rz9qF3w4WdqtWVAUKkzC6Em9gUBp6oilH
iy9c320gd+doEPhzkD+zquusA4RzbUM0aILE240GzmqVeXjrqXVieapz67g12ZKu
2Br0SIkCgYEA4Y5cdlR8yISsUSHUaUys7dMPfj8Tvrhs5wYPVEtjg4OfPECCAKRH
ZMWRsSFc+dGKaGoYoEd4gPM8sjbkYOh0K0IJliC36FbSBtyYcRl0FUVOSwi7ne2s
ytzjuFxo4ytofQ4Caq1RzUbDS4v+Mip/w8O9o29TsIt7VYe72G9XkJkCgYEAxDS1
0upz7wbLEgq3eLiDu+mUB1IvzoX4NQkaLcZkuy3VaHK8dMr1h9OaFMlhFyMBTf2h
QjM3hCG8gsKjAEloT+bxRLwVUGJv37Bs44tEWIYNv2RrmWSBpVOEEZuVrNAk9ATJ
+quK34qYWN1g+Gwc/grRlKYSB4qO+OLvNJMPHssCgYAonzYBzaeHiXVrSzdxG3EN
h/SDXSLWN2rNlKbQHJ+4gMz90fRX3z5IZNifWQ3gpB9UPL9gpl6KgsQMqJwq49KA
M+18Dzpv6qr6t2HxBI+GgSvfkZwQjkyPYIbWnjX5q8iutQY0ZjCUUsk7YuQN7t+B
x0/xDky5P/Wfasmm6i6QCQKBgHEzyEQsqT8buEZskHbCXp8ooROoQ5TwjshqvAP1
F2E3jI16xWjNQORhHeEoXzAuLi6FS2kai8lcfZskGU+tCtYu9L0nl1SNtuZksC6I
x6Iblgr7MWmLJ5HvoZ9XGQBgBzITIUXTe4iGOmfrMmuiVQftzgXp2zUmqF7I8CJx
RqQJAoGANf/3pB4AbCAON7JZwetVPTDRIqZua4PtIBHQQRzHFrHeRP8cQipVJlyK
/oYg5TixgQy+IUOo2DcmAg0F8rl5TkvGs1rAU4+lh4TayxQxmUqsmCfIaYlnoQcg
5mhjKeGi+IoUa1NhBWxHla1yl3kkJaJD2o02poxmY487uOgzo+Q=
-----END RSA PRIVATE KEY-----
";

/// On P-256.
pub(crate) const EC_PUBLIC: &str = "\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEmGzJopxqsUtuCU2y44ViCKl42so3
OQfG0MH42jb2YJJ3RpBQuDw16F6gykmiAAafib8dB5ap6xsEoH+c1bLLrw==
-----END PUBLIC KEY-----
";

/// `EC_PUBLIC` with its point compressed.
pub(crate) const EC_PUBLIC_COMPRESSED: &str = "\
-----BEGIN PUBLIC KEY-----
MDkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDIgADmGzJopxqsUtuCU2y44ViCKl42so3OQfG0MH42jb2YJI=
-----END PUBLIC KEY-----
";

/// PKCS #8.
pub(crate) const EC_PRIVATE: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgfry0+oDPQQyzVjQW
5x915Z1i1rRwa6i/JblKKfWcXLahRANCAASYbMminGqxS24JTbLjhWIIqXjayjc5
B8bQwfjaNvZgkndGkFC4PDXoXqDKSaIABp+Jvx0HlqnrGwSgf5zVssuv
-----END PRIVATE KEY-----
";

/// The same as SEC 1.
pub(crate) const EC_PRIVATE_SEC1: &str = "\
-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIH68tPqAz0EMs1Y0FucfdeWdYta0cGuovyW5Sin1nFy2oAoGCCqGSM49
AwEHoUQDQgAEmGzJopxqsUtuCU2y44ViCKl42so3OQfG0MH42jb2YJJ3RpBQuDw1
6F6gykmiAAafib8dB5ap6xsEoH+c1bLLrw==
-----END EC PRIVATE KEY-----
";

/// Ed25519.
pub(crate) const ED_PUBLIC: &str = "\
-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEABgOtkK8f6BVz8NC8rm9YbybNeYJfo4R6fzbv1RQKBss=
-----END PUBLIC KEY-----
";

/// PKCS #8.
pub(crate) const ED_PRIVATE: &str = "\
-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIE+ASijmbdC9pOT5G+u3Xz7RJWyF/u+ACsm6uDGbAljf
-----END PRIVATE KEY-----
";

/// Too short.
pub(crate) const RSA_1024_PUBLIC: &str = "\
-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDul69YzLLAOk6Sk5AF0p+GmlXE
vh68hiW2fWl2KVLIKGPgiloWs97ulXXGmdf1rcmyycYu35Lfdgj6QIAIGBST3gll
L7ykYER9g0PzoaHs0SLHFutErcv3Uir9dqBuvqF9B6s6iJvllgTOXLSOcGrMSQVl
7Br+QhTs+pPQmirEowIDAQAB
-----END PUBLIC KEY-----
";

/// Too short.
pub(crate) const RSA_1024_PRIVATE: &str = "\
-----BEGIN PRIVATE KEY-----
MIICeAIBADANBgkqhkiG9w0BAQEFAASCAmIwggJeAgEAAoGBAO6Xr1jMssA6TpKT
kAXSn4aaVcS+HryGJbZ9aXYpUsgoY+CKWhaz3u6VdcaZ1/WtybLJxi7fkt92CPpA
gAgYFJPeCWUvvKRgRH2DQ/OhoezRIscW60Sty/dSKv12oG6+oX0HqzqIm+WWBM5c
tI5wasxJBWXsGv5CFOz6k9CaKsSjAgMBAAECgYEAmPsPRiux7Uk1egw9i046VQ7+
MXEJui11XuZYyZfDaW1kZOOw0d+w8F9KrfWUoAU3T3jKpuFZhghjxzm2Hfp6rfvy
1R/0G1yYVshab0A+XOWNFRE+V+D/0GVdc6WxYF9pkfJ6PuTDPQLLUDFzPy/YrvPl
nspOqZwcJldGjVo4XgECQQD7xCJ5pcQBbzomUxIKFU2EGFXQCLlkWJ+8Y1hN2jaS
gGeSw9RBfGW/3rtPAPztnfGhBYYHQ1zFuQx3Md+PgNMBAkEA8prWUHCR4vTM1ELk
ABf69V/QkBkwt+K2CY6K/58TofiJwA5Wq2lyoOH52gAbWKF/ScGCvqdYN2QB4Kea
GfNrowJAYqL5DsfO/vDgy1sIWkL2V6ZhGFwSpinCi0AwvG+dqc/8xBdM9UsTYhSV
NeKhNUcH/5n2ZKoTkrNpGtnDSKmkAQJBAMfwGa4DiAeuTlykn/j/ymCMzXrkd8Uk
f3fS1PUkKe7zwLraVk1AQysZ8Wrbaa4asqebZmAv1EEaF34JQrQea9cCQQDw/Jml
Wxw+2W/UAJeOxAq81WFS8iznIDyaQ3bvQLoKp7VOWJRToxLSWQ5cbct6q+dYHD1o
7aMTZZHw+vrXZjw8
-----END PRIVATE KEY-----
";

/// On another curve.
pub(crate) const P384_PUBLIC: &str = "\
-----BEGIN PUBLIC KEY-----
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAE9umzfO0D1K4IlIGjGN0g64IpIyViXj7l
Nu4PCKwLhknkIY5wjYFwedFv76pLqhqzRQ4yGQNzJEiwVbzQYLslvi9GaZp6b5eG
oYCfQgJRu57/Vzr/nILv2zxGnuUjdNPi
-----END PUBLIC KEY-----
";

/// On another curve.
pub(crate) const P384_PRIVATE: &str = "\
-----BEGIN PRIVATE KEY-----
MIG2AgEAMBAGByqGSM49AgEGBSuBBAAiBIGeMIGbAgEBBDB6Ol1hXxkhCtp6U6fB
+DE2PqdokjRiRVDb+qXrOMdO1Vmiprd+8H2AXOXM77yMCVWhZANiAAT26bN87QPU
rgiUgaMY3SDrgikjJWJePuU27g8IrAuGSeQhjnCNgXB50W/vqkuqGrNFDjIZA3Mk
SLBVvNBguyW+L0Zpmnpvl4ahgJ9CAlG7nv9XOv+cgu/bPEae5SN00+I=
-----END PRIVATE KEY-----
";

/// On another curve of 256 bits.
pub(crate) const K256_PUBLIC: &str = "\
-----BEGIN PUBLIC KEY-----
MFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAE6NYRGBbMW+9M51d4Q31lFlhKLqwOra7O
GAqvfSio76+K5D0QrIm35GhxqKrGt5aQbEw5r6jAOrXVOKGrt2JW1A==
-----END PUBLIC KEY-----
";

/// With a password.
pub(crate) const ENCRYPTED_PRIVATE: &str = "\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIH0MF8GCSqGSIb3DQEFDTBSMDEGCSqGSIb3DQEFDDAkBBBrywWKTj6/fhd5Er/q
2BKpAgIIADAMBggqhkiG9w0CCQUAMB0GCWCGSAFlAwQBKgQQ+a2hFCwEIj7XNZj+
2MA0KwSBkGhHhPGRtCNc1+omnSne7WKJKk44N1dLtDxUTIkdm28uCsnikp4IOKcM
VR8BF+BUROTVYUIyk+ExduiFaw6bRfF0iBxfuV4tSzmXbVJ8e2M+ibYZ4dsg03HP
OFCfSFU4ofR9pINABRiziOFhZxu/RMwVkFNgqFr630VNsUM65Cam9ASV3FAtSvjH
QcrnfStkBw==
-----END ENCRYPTED PRIVATE KEY-----
";
