// DKIM by mailauth, for tests/support/mailauth.py.
const readline = require("readline");
const { dkimSign } = require("mailauth/lib/dkim/sign");
const { dkimVerify } = require("mailauth/lib/dkim/verify");

async function answer(request) {
  const message = Buffer.from(request.message, "base64");
  if (request.sign) {
    const made = await dkimSign(message, request.sign);
    return { signatures: made.signatures, errors: made.errors.map((failure) => String(failure.err)) };
  }
  const resolver = async (name) => {
    if (name in request.records) {
      return [[request.records[name]]];
    }
    throw Object.assign(new Error("no such name"), { code: "ENOTFOUND" });
  };
  const { results } = await dkimVerify(message, { resolver });
  return { results: results.map(({ signingDomain, status }) => ({ domain: signingDomain, ...status })) };
}

// A line is a request, and the line that follows on standard output its answer.
(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(await answer(JSON.parse(line))));
  }
})();
