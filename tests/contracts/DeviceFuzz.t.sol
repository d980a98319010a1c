// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

import {IDeviceRegistrants} from "../../contracts/interfaces/IDeviceRegistrants.sol";
import {IDeviceRegistry} from "../../contracts/interfaces/IDeviceRegistry.sol";
import {IDeviceSites} from "../../contracts/interfaces/IDeviceSites.sol";
import {DeviceScene} from "./DeviceScene.sol";

/// @title Single calls of DeviceRegistry with random values
contract DeviceFuzz is DeviceScene {
    /// @dev The prime and the constant of P-256 (FIPS 186-5).
    uint256 private constant PRIME = 0xffffffff00000001000000000000000000000000ffffffffffffffffffffffff;
    uint256 private constant CURVE_B = 0x5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b;

    function setUp() external {
        _deployDevices();
        _populate();
    }

    function testFuzz_D1_aRegistrantsNameHasNoSlash(bytes32 name, uint8 length, bool seldom) external {
        for (uint256 i = 0; i < 32 && !seldom; ++i) {
            uint8 character = i < length % 34 ? uint8(_pick(uint8(name[i]), 33, 126)) : 0;
            name = bytes32((uint256(name) & ~(0xFF << (248 - 8 * i))) | (uint256(character) << (248 - 8 * i)));
        }
        (uint256 used, bool good) = (0, true);
        for (; used < 32 && name[used] != 0; ++used) good = good && name[used] > 0x20 && name[used] < 0x7f && name[used] != "/";
        for (uint256 i = used; i < 32; ++i) good = good && name[i] == 0;
        bytes memory refusal;
        if (!good || used == 0 || used == 32) refusal = abi.encodeWithSelector(IDeviceRegistrants.NameInvalid.selector, name);
        bytes memory call = abi.encodeCall(_registry.admitRegistrant, (name, _publicKey(2, "new"), STRANGER));
        _refuse(address(this), call, refusal);
        if (refusal.length == 0) require(_registry.registrantOf(STRANGER).name == name, "D1");
    }

    function testFuzz_D1_aKeyIsCompressed(bytes calldata key) external {
        bytes memory call = abi.encodeCall(_registry.admitRegistrant, ("new", key, STRANGER));
        bool good = key.length == 33 && (key[0] == 0x02 || key[0] == 0x03);
        bytes memory refusal = abi.encodeWithSelector(IDeviceRegistrants.PublicKeyInvalid.selector, key);
        _refuse(address(this), call, good ? bytes("") : refusal);
    }

    function testFuzz_D5_ownsBlocksIsTrueForItsBlocksOnly(uint256[] calldata words, uint8 count) external {
        _registry.giveBlocks(SITE, uint32(_pick(count, 1, 40)));
        uint256[] memory some = new uint256[](words.length);
        bool all = true;
        for (uint256 i = 0; i < words.length; ++i) {
            // Mostly blocks near those that were given.
            some[i] = words[i] % 4 == 3 ? words[i] : words[i] % 50;
            bool own = some[i] == 1 || (some[i] > 3 && some[i] <= 3 + _pick(count, 1, 40));
            all = all && own;
        }
        require(_registry.ownsBlocks(SITE, some) == all, "D5");
        require(!_registry.ownsBlocks("none", some), "D5: none");
    }

    function testFuzz_D6_aSignatureCoversEachField(uint8 field, bytes32 salt) external {
        IDeviceRegistry.Registration memory thing = _thing("1");
        (thing.keyX, thing.keyY) = _deviceKey(uint256(salt));
        bytes memory signature = _sign(ACME_KEY, thing);
        field %= 8;
        if (field == 0) thing.nonce = abi.encodePacked(salt);
        else if (field == 1) thing.aliases[0] = string.concat("acme/thermo2/", "2");
        else if (field == 2) thing.data = "other";
        else if (field == 3) thing.site = OTHER_SITE;
        else if (field == 4) (thing.keyX, thing.keyY) = (0, 0);
        else if (field == 5) thing.keyY = bytes32(PRIME - uint256(thing.keyY));
        else if (field == 6) thing.aliases = _twice("acme/thermo2/1", "acme/x");
        else thing.spec = "thermo3";
        (bool done, bytes memory answer) = address(_registry).call(abi.encodeCall(_registry.register, (thing, signature)));
        require(!done && bytes4(answer) == IDeviceRegistry.SignatureOfAnother.selector, "D6");
    }

    function testFuzz_D6_anySignatureIsOfItsSigner(bytes calldata signature) external {
        IDeviceRegistry.Registration memory thing = _thing("1");
        (bool done, bytes memory answer) = address(_registry).call(abi.encodeCall(_registry.register, (thing, signature)));
        require(!done && bytes4(answer) == IDeviceRegistry.SignatureOfAnother.selector, "D6");
    }

    function testFuzz_D7_recordsAreFoundByTheirKeys(bytes calldata nonce, string calldata data) external {
        IDeviceRegistry.Registration memory thing = _thing("1");
        thing.nonce = nonce.length == 0 ? bytes("x") : bytes(nonce[:nonce.length < 64 ? nonce.length : 64]);
        thing.data = data;
        vm.assume(bytes(data).length <= 2048);
        uint64 number = _register(thing);
        string memory key = string.concat("Thing:", string(_hexText(thing.nonce)));
        bytes memory record = _registry.record(key);
        require(keccak256(record) == keccak256(_registry.device(number).record), "D7");
        uint256 length = bytes(data).length;
        // Behind the alias and the key come the data, if there are any, and the spec.
        require(record.length == 16 + 68 + (length == 0 ? 0 : length < 128 ? length + 2 : length + 3) + 9, "D7: length");
    }

    function testFuzz_D9_aKeyIsAPointOfP256(uint256 x, uint256 y, uint8 how) external {
        uint64 number = _register(_thing("1"));
        (bytes32 goodX, bytes32 goodY) = _deviceKey(x);
        if (how % 4 == 0) (x, y) = (uint256(goodX), uint256(goodY));
        else if (how % 4 == 1) (x, y) = (uint256(goodX), PRIME - uint256(goodY));
        else if (how % 4 == 2) x = uint256(goodX);
        bytes memory refusal;
        if (!_isPoint(x, y)) refusal = abi.encodeWithSelector(IDeviceRegistry.DeviceKeyInvalid.selector, x, y);
        _refuse(_acme, abi.encodeCall(_registry.setKey, (number, bytes32(x), bytes32(y))), refusal);
        if (refusal.length == 0) require(_registry.numberOfKey(bytes32(x), bytes32(y)) == number, "D9");
    }

    function testFuzz_D12_aNumberIsInItsBatchOnly(uint64 number, uint64 first, uint64 second) external {
        _registry.giveBlocks(SITE, 4);
        (first, second) = (uint64(_pick(first, 1, 500)), uint64(_pick(second, 1, 500)));
        number = uint64(_pick(number, 0, 2100));
        vm.prank(_acme);
        uint64 one = _registry.registerBatch(THERMO, SITE, first, "one");
        vm.prank(_acme);
        uint64 two = _registry.registerBatch(THERMO, SITE, second, "two");
        bytes32 root = number >= one && number < one + first ? bytes32("one") : bytes32(0);
        if (number >= two && number < two + second) root = "two";
        require(_registry.batchOf(number).root == root, "D12");
        require((_registry.device(number).number == number) == (root != 0 || number == 0), "D12: device");
    }

    function testFuzz_D13_anyOtherAccountIsRefused(address account, bytes32 name, uint64 number) external {
        vm.assume(account != address(this) && account != address(0)); // 0 is the pending owner
        bytes memory refusal = abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, account);
        _refuse(account, abi.encodeCall(_registry.admitRegistrant, (name, _publicKey(2, "x"), account)), refusal);
        _refuse(account, abi.encodeCall(_registry.suspendRegistrant, (ACME)), refusal);
        _refuse(account, abi.encodeCall(_registry.restoreRegistrant, (ACME)), refusal);
        _refuse(account, abi.encodeCall(_registry.setRegistrantAccount, (ACME, account)), refusal);
        _refuse(account, abi.encodeCall(_registry.importSpec, (ACME, "x", "", SIGNATURE)), refusal);
        _refuse(account, abi.encodeCall(_registry.importThings, (_import(_thing("1")))), refusal);
        _refuse(account, abi.encodeCall(_registry.giveBlocks, (SITE, 1)), refusal);
        _refuse(account, abi.encodeCall(_registry.replaceSite, (SITE, bytes16(name))), refusal);
        _refuse(account, abi.encodeCall(_registry.transferOwnership, (account)), refusal);
        _refuse(account, abi.encodeCall(_registry.acceptOwnership, ()), refusal);
        vm.assume(account != _acme && account != _bolt && account != ADMIN);
        number = _register(_thing("1"));
        refusal = abi.encodeWithSelector(IDeviceRegistrants.NotARegistrant.selector, account);
        _refuse(account, abi.encodeCall(_registry.ban, (number, name)), refusal);
        _refuse(account, abi.encodeCall(_registry.unban, (number)), refusal);
        _refuse(account, abi.encodeCall(_registry.transfer, (number, BOLT)), refusal);
        _refuse(account, abi.encodeCall(_registry.setKey, (number, name, name)), refusal);
        _refuse(account, abi.encodeCall(_registry.registerSpec, ("x", "")), refusal);
    }

    function testFuzz_D14_itTakesNoEther(uint64 amount, bytes calldata data) external {
        vm.deal(address(this), amount);
        (bool done, ) = address(_registry).call{value: amount}("");
        require(!done, "D14: without data");
        bytes[2] memory calls = [data, abi.encodeCall(_registry.giveBlocks, (SITE, 1))];
        for (uint256 i = 0; i < 2 && amount != 0; ++i) {
            (done, ) = address(_registry).call{value: amount}(calls[i]);
            require(!done && address(_registry).balance == 0, "D14");
        }
    }

    function testFuzz_D15_pagesOfAnyKindAreAnswered(uint256 from, uint256 count, uint64 first, uint64 length) external {
        uint64 number = _register(_thing("1"));
        uint256 left = from < 2 ? 2 - from : 0;
        uint256 wanted = count < left ? count : left;
        require(_registry.registrants(from, count).length == wanted, "D15: registrants");
        require(_registry.specs(from, count).length == wanted, "D15: specs");
        require(_registry.sites(from, count).length == wanted, "D15: sites");
        require(_registry.updates(THERMO, from, count).length == 0, "D15: updates");
        require(_registry.batches(SITE, from, count).length == 0, "D15: batches");
        bool inside = first <= number && number - first < length;
        require(_registry.devices(first % 2000, 0).length == 0, "D15: none");
        if (first < 300) require(_registry.devices(first, length).length == (inside ? 1 : 0), "D15: devices");
    }

    function testFuzz_itIsDeployedBesideAContract(address owner, address account) external {
        bytes memory call = abi.encodeCall(this.deploy, (owner, account));
        (bool success, ) = address(this).call(call);
        require(success == (owner != address(0) && account.code.length != 0), "deployed beside no contract");
    }

    /// @notice Deploys DeviceRegistry; called externally, so that a failure can be caught.
    function deploy(address owner, address identities) external {
        _deploy("DeviceRegistry", abi.encode(owner, identities));
    }

    function _isPoint(uint256 x, uint256 y) private pure returns (bool) {
        if (x >= PRIME || y >= PRIME) return false;
        uint256 cube = mulmod(mulmod(x, x, PRIME), x, PRIME);
        uint256 right = addmod(addmod(cube, mulmod(PRIME - 3, x, PRIME), PRIME), CURVE_B, PRIME);
        return mulmod(y, y, PRIME) == right;
    }

    function _twice(string memory one, string memory two) private pure returns (string[] memory texts) {
        texts = new string[](2);
        (texts[0], texts[1]) = (one, two);
    }

    function _hexText(bytes memory data) private pure returns (bytes memory text) {
        bytes memory digits = "0123456789abcdef";
        text = new bytes(2 * data.length);
        for (uint256 i = 0; i < data.length; ++i) {
            text[2 * i] = digits[uint8(data[i]) >> 4];
            text[2 * i + 1] = digits[uint8(data[i]) & 15];
        }
    }
}
